//! The socket options of ip(7), ipv6(7), tcp(7), udp(7) and socket(7) that reach the host's sockets. The sentry's own
//! filter and the private kernel's sockets go by the same lists.
use libc as c;

/// Level, and the names at that level.
pub type Options = [(i32, &'static [i32])];

/// Read and written.
pub const BOTH: &Options = &[
    (
        c::SOL_SOCKET,
        &[
            c::SO_REUSEADDR,
            c::SO_REUSEPORT,
            c::SO_KEEPALIVE,
            c::SO_BROADCAST,
            c::SO_OOBINLINE,
            c::SO_SNDBUF,
            c::SO_RCVBUF,
            c::SO_DONTROUTE,
            c::SO_PRIORITY,
            c::SO_RCVLOWAT,
            c::SO_TIMESTAMP,
            c::SO_TIMESTAMPNS,
            c::SO_BINDTODEVICE,
            c::SO_LINGER,
        ],
    ),
    (
        c::IPPROTO_TCP,
        &[
            c::TCP_NODELAY,
            c::TCP_MAXSEG,
            c::TCP_CORK,
            c::TCP_KEEPIDLE,
            c::TCP_KEEPINTVL,
            c::TCP_KEEPCNT,
            c::TCP_SYNCNT,
            c::TCP_LINGER2,
            c::TCP_DEFER_ACCEPT,
            c::TCP_WINDOW_CLAMP,
            c::TCP_QUICKACK,
            c::TCP_USER_TIMEOUT,
            c::TCP_FASTOPEN,
            c::TCP_FASTOPEN_CONNECT,
            c::TCP_NOTSENT_LOWAT,
        ],
    ),
    (c::IPPROTO_UDP, &[c::UDP_CORK]),
    (
        c::IPPROTO_IP,
        &[
            c::IP_TOS,
            c::IP_TTL,
            c::IP_PKTINFO,
            c::IP_RECVERR,
            c::IP_RECVOPTS,
            c::IP_RETOPTS,
            c::IP_RECVTTL,
            c::IP_RECVTOS,
            c::IP_MTU_DISCOVER,
            c::IP_FREEBIND,
            c::IP_MINTTL,
            c::IP_BIND_ADDRESS_NO_PORT,
            c::IP_RECVORIGDSTADDR,
            c::IP_MULTICAST_IF,
            c::IP_MULTICAST_TTL,
            c::IP_MULTICAST_LOOP,
            c::IP_MULTICAST_ALL,
            c::IP_UNICAST_IF,
        ],
    ),
    (
        c::IPPROTO_IPV6,
        &[
            c::IPV6_V6ONLY,
            c::IPV6_UNICAST_HOPS,
            c::IPV6_MULTICAST_IF,
            c::IPV6_MULTICAST_HOPS,
            c::IPV6_MULTICAST_LOOP,
            c::IPV6_MULTICAST_ALL,
            c::IPV6_RECVPKTINFO,
            c::IPV6_RECVHOPLIMIT,
            c::IPV6_RECVTCLASS,
            c::IPV6_TCLASS,
            c::IPV6_MTU_DISCOVER,
            c::IPV6_RECVERR,
            c::IPV6_DONTFRAG,
            c::IPV6_ADDR_PREFERENCES,
            c::IPV6_FREEBIND,
        ],
    ),
];

/// Only read. What they tell is about the socket, not about the host.
pub const READ: &Options = &[
    (c::SOL_SOCKET, &[c::SO_ERROR, c::SO_TYPE, c::SO_PROTOCOL, c::SO_DOMAIN, c::SO_ACCEPTCONN]),
    (c::IPPROTO_TCP, &[c::TCP_INFO, c::TCP_CONGESTION]),
    (c::IPPROTO_IP, &[c::IP_MTU]),
    (c::IPPROTO_IPV6, &[c::IPV6_MTU]),
];

/// Only written: membership of multicast groups.
pub const WRITTEN: &Options = &[
    (
        c::IPPROTO_IP,
        &[
            c::IP_ADD_MEMBERSHIP,
            c::IP_DROP_MEMBERSHIP,
            c::IP_ADD_SOURCE_MEMBERSHIP,
            c::IP_DROP_SOURCE_MEMBERSHIP,
            MCAST_JOIN_GROUP,
            MCAST_LEAVE_GROUP,
        ],
    ),
    (c::IPPROTO_IPV6, &[c::IPV6_ADD_MEMBERSHIP, c::IPV6_DROP_MEMBERSHIP, MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP]),
];

/// Which is not in libc.
pub const MCAST_JOIN_GROUP: i32 = 42;
pub const MCAST_LEAVE_GROUP: i32 = 45;

/// Is it in one of the lists?
pub fn listed(lists: &[&Options], level: i32, name: i32) -> bool {
    lists.iter().any(|o| o.iter().any(|(l, names)| *l == level && names.contains(&name)))
}
