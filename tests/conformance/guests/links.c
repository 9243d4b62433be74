/* What who has CAP_NET_ADMIN may ask of an interface: that it stay as it is. rtnetlink(7). */
#include "t.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

/* The error that RTM_NEWLINK is answered by. */
static int change(int index, const char *name, unsigned flags, unsigned mask) {
    struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
        struct rtattr attribute;
        char name[IFNAMSIZ];
    } m = {{sizeof m.header + sizeof m.link, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0},
           {AF_UNSPEC, 0, 0, index, flags, mask},
           {RTA_LENGTH(IFNAMSIZ), IFLA_IFNAME},
           ""};
    if (name) {
        strcpy(m.name, name);
        m.header.nlmsg_len = sizeof m;
    }
    FD(fd, socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    OK(send(fd, &m, m.header.nlmsg_len, 0));
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char rest[256];
    } answer;
    CHECK(recv(fd, &answer, sizeof answer, 0) >= (ssize_t)(sizeof answer.header + sizeof answer.error));
    EQ(answer.header.nlmsg_type, NLMSG_ERROR);
    OK(close(fd));
    return -answer.error.error;
}
static void administrator(void) {
    if (change(1, NULL, IFF_UP, IFF_UP) == EPERM)
        SKIP("not for this user");
}

CASE(a_link_that_is_up_is_put_up) {
    administrator();
    EQ(change(1, NULL, IFF_UP, IFF_UP), 0);
    EQ(change(0, "lo", IFF_UP, IFF_UP), 0);
    EQ(change(1, "lo", IFF_UP, IFF_UP), 0);
    EQ(change(12345, NULL, IFF_UP, IFF_UP), ENODEV);
    EQ(change(0, "none0", IFF_UP, IFF_UP), ENODEV);
}

CASE(others_may_not) {
    administrator();
    OK(syscall(SYS_setresuid, 1000, 1000, 1000));
    EQ(change(1, NULL, IFF_UP, IFF_UP), EPERM);
}
