//! The network: wired interfaces and their addresses, name servers, the time.
//!
//! | module | is |
//! |---|---|
//! | [`interfaces`] | the state of every interface; carries out what the protocols decide |
//! | [`dhcp`] | the DHCPv4 client, without sockets |
//! | [`ipv4`] | UDP in IPv4, as a packet socket receives it |
//! | [`netlink`] | requests to the kernel, and its notifications |
//! | [`sockets`] | sockets that work before an interface has an address |
//! | [`own_addresses`] | the addresses of this machine, which no server has |
//! | [`resolv_conf`] | the list of name servers for programs |
//! | [`sntp`] | the time |

pub(crate) mod dhcp;
pub(crate) mod interfaces;
pub(crate) mod ipv4;
pub(crate) mod netlink;
mod own_addresses;
mod resolv_conf;
pub(crate) mod sntp;
mod sockets;
