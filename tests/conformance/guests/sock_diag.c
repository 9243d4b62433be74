/* Socket diagnosis by netlink, as ss asks: sock_diag(7). */
#include "t.h"
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The state and port (or length of the name) that sock_diag(7) tells of the socket `fd`; -1: it is in no list. */
static int diagnosed(int fd, int family, int protocol, unsigned states, int *what) {
    struct stat st;
    OK(fstat(fd, &st));
    FD(s, socket(AF_NETLINK, SOCK_DGRAM, NETLINK_SOCK_DIAG));
    struct {
        struct nlmsghdr h;
        union {
            struct inet_diag_req_v2 inet;
            struct unix_diag_req local;
        };
    } req = {.h = {sizeof req, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 5, 0}};
    if (family == AF_UNIX)
        req.local = (struct unix_diag_req){.sdiag_family = family, .udiag_states = states, .udiag_show = UDIAG_SHOW_NAME};
    else
        req.inet = (struct inet_diag_req_v2){.sdiag_family = family, .sdiag_protocol = protocol, .idiag_states = states};
    EQ(send(s, &req, sizeof req, 0), sizeof req);
    static char buf[65536];
    int state = -1;
    for (;;) {
        ssize_t len = recv(s, buf, sizeof buf, 0);
        CHECK(len > 0);
        for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
            if (h->nlmsg_type == NLMSG_DONE)
                return close(s), state;
            EQ(h->nlmsg_type, SOCK_DIAG_BY_FAMILY);
            EQ(h->nlmsg_seq, 5);
            if (family == AF_UNIX) {
                struct unix_diag_msg *m = NLMSG_DATA(h);
                if (m->udiag_ino == st.st_ino) {
                    state = m->udiag_state;
                    struct rtattr *first = (void *)(m + 1);
                    int told = h->nlmsg_len > NLMSG_LENGTH(sizeof *m) && first->rta_type == UNIX_DIAG_NAME;
                    *what = told ? first->rta_len - RTA_LENGTH(0) : 0;
                }
            } else {
                struct inet_diag_msg *m = NLMSG_DATA(h);
                if (m->idiag_inode == st.st_ino) {
                    state = m->idiag_state;
                    *what = ntohs(m->id.idiag_sport);
                }
            }
        }
    }
}
CASE(sock_diag) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un u = {AF_UNIX, "\0diagnosed"};
    socklen_t n = sizeof a;
    int what, pair[2];
    FD(listens, socket(AF_INET, SOCK_STREAM, 0));
    OK(bind(listens, (void *)&a, sizeof a));
    OK(listen(listens, 5));
    OK(getsockname(listens, (void *)&a, &n));
    EQ(diagnosed(listens, AF_INET, IPPROTO_TCP, -1, &what), TCP_LISTEN);
    EQ(what, ntohs(a.sin_port));
    EQ(diagnosed(listens, AF_INET, IPPROTO_TCP, 1 << TCP_ESTABLISHED, &what), -1);
    EQ(diagnosed(listens, AF_INET6, IPPROTO_TCP, -1, &what), -1);
    EQ(diagnosed(listens, AF_INET, IPPROTO_UDP, -1, &what), -1);
    FD(connects, socket(AF_INET, SOCK_STREAM, 0));
    OK(connect(connects, (void *)&a, sizeof a));
    EQ(diagnosed(connects, AF_INET, IPPROTO_TCP, 1 << TCP_ESTABLISHED, &what), TCP_ESTABLISHED);
    FD(local, socket(AF_UNIX, SOCK_STREAM, 0));
    OK(bind(local, (void *)&u, sizeof(sa_family_t) + 10));
    EQ(diagnosed(local, AF_UNIX, 0, -1, &what), TCP_CLOSE);
    EQ(what, 10);
    OK(listen(local, 1));
    EQ(diagnosed(local, AF_UNIX, 0, -1, &what), TCP_LISTEN);
    OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    EQ(diagnosed(pair[0], AF_UNIX, 0, -1, &what), TCP_ESTABLISHED);
    EQ(what, 0);
    FD(s, socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
    struct {
        struct nlmsghdr h;
        char family;
    } bad = {{sizeof bad, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 6, 0}, AF_INET};
    EQ(send(s, &bad, sizeof bad, 0), sizeof bad);
    static char buf[4096];
    CHECK(recv(s, buf, sizeof buf, 0) > 0);
    EQ(((struct nlmsghdr *)buf)->nlmsg_type, NLMSG_ERROR);
    EQ(((struct nlmsgerr *)NLMSG_DATA((struct nlmsghdr *)buf))->error, -EINVAL);
}
