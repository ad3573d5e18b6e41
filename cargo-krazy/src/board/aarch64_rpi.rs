//! The device trees and kernel modules of a Raspberry Pi with a 64-bit processor.
//!
//! The lists are written for Debian's `arm64` kernel; a name that it has built in or lacks is passed over.

use super::kernel_build::{COMMON, HARDENING};
use super::{Board, Boot, KernelBuild, ModuleGroups, modules};

/// The board.
pub(super) const BOARD: Board = Board {
    name: "aarch64-rpi",
    description: "Raspberry Pi 3, 4, Compute Module 3 and 4, Zero 2 W (64-bit)",
    triple: "aarch64-unknown-linux-musl",
    debian_arch: "arm64",
    debian_kernel: "linux-image-arm64",
    boot: Boot::RaspberryPi { firmware: "raspi-firmware", dtbs: DTBS },
    // The small UART, which the device trees put on the pins: the other one speaks to the Bluetooth chip.
    cmdline: &["console=tty0", "console=ttyS1,115200", "panic=10", "quiet"],
    serial_console: "console=ttyS1,115200",
    start_modules: &[WATCHDOG, modules::FILE_SYSTEMS],
    disk_modules: DISKS,
    root_modules: ROOT,
    kernel_build: KernelBuild {
        arch: "arm64",
        goals: &["Image", "dtbs"],
        image: "arch/arm64/boot/Image",
        dtbs: &["arch/arm64/boot/dts/broadcom"],
        gcc_prefix: "aarch64-linux-gnu-",
        gcc_package: "gcc-aarch64-linux-gnu",
        native: "aarch64",
        fragments: &[
            COMMON,
            ("aarch64-rpi.config", include_str!("../kernel/build/config/aarch64-rpi.config")),
            HARDENING,
        ],
    },
    qemu: "qemu-system-aarch64",
};

/// Device trees of the kernel, in its own names, which the firmware looks for under `upstream_kernel=1`.
const DTBS: &[&str] = &[
    "broadcom/bcm2711-rpi-4-b.dtb",
    "broadcom/bcm2711-rpi-400.dtb",
    "broadcom/bcm2711-rpi-cm4-io.dtb",
    "broadcom/bcm2837-rpi-3-a-plus.dtb",
    "broadcom/bcm2837-rpi-3-b.dtb",
    "broadcom/bcm2837-rpi-3-b-plus.dtb",
    "broadcom/bcm2837-rpi-cm3-io3.dtb",
    "broadcom/bcm2837-rpi-zero-2-w.dtb",
];

/// The watchdog, through which the machine restarts and powers off.
const WATCHDOG: &[&str] = &["bcm2835_wdt"];

/// SD cards, eMMC and USB disks.
const DISKS: ModuleGroups = &[&[
    // SD cards and eMMC: the Pi 3's two hosts, the Pi 4's.
    "mmc_block",
    "bcm2835",
    "sdhci_iproc",
    "sdhci_pltfm",
    // USB: the Pi 3's host, and the Pi 4's behind PCIe.
    "dwc2",
    "reset_raspberrypi",
    "pcie_brcmstb",
    "xhci_pci",
    "usb_storage",
    "uas",
    "sd_mod",
]];

/// Modules that the running system finds in `/lib/modules` besides those of the initramfs. Not here, for their size or
/// because they need firmware that is not on the image: Wi-Fi and Bluetooth, sound, graphics and the camera.
const ROOT: ModuleGroups = &[
    &[
        // Network: the boards' own, USB adapters, transceivers.
        "genet",
        "drivers/net/usb/",
        "drivers/net/phy/",
        "drivers/net/mdio/",
        // Network: virtual devices, tunnels, packet filter.
        "tun",
        "tap",
        "veth",
        "bridge",
        "br_netfilter",
        "8021q",
        "bonding",
        "dummy",
        "macvlan",
        "vxlan",
        "wireguard",
        "sit",
        "ip6_tunnel",
        "ppp_generic",
        "ppp_async",
        "pppoe",
        "nf_tables",
        "nf_conntrack_netlink",
        "nft_chain_nat",
        "nft_compat",
        "nft_connlimit",
        "nft_ct",
        "nft_fib_inet",
        "nft_hash",
        "nft_limit",
        "nft_log",
        "nft_masq",
        "nft_nat",
        "nft_numgen",
        "nft_redir",
        "nft_reject_inet",
        "nft_socket",
        "nft_tproxy",
        "sch_fq",
        "sch_fq_codel",
        "sch_htb",
        "sch_ingress",
        "cls_bpf",
        "cls_u32",
        "tcp_bbr",
        "tls",
        "af_packet",
        // Disks and file systems beyond our own.
        "sr_mod",
        "loop",
        "zram",
        "dm_mod",
        "dm_crypt",
        "fuse",
        "exfat",
        "isofs",
        "autofs4",
        // Random numbers, clocks, temperature, voltage.
        "bcm2835_rng",
        "iproc_rng200",
        "softdog",
        "bcm2711_thermal",
        "bcm2835_thermal",
        "raspberrypi_cpufreq",
        "raspberrypi_hwmon",
        "drivers/rtc/",
    ],
    modules::INPUT,
    &[
        // The pins: I²C, SPI, PWM, one-wire, LEDs; and what sensors often need.
        "i2c_bcm2835",
        "i2c_brcmstb",
        "i2c_mux_pinctrl",
        "i2c_dev",
        "spi_bcm2835",
        "spi_bcm2835aux",
        "spidev",
        "pwm_bcm2835",
        "w1_gpio",
        "w1_therm",
        "leds_gpio",
        "ledtrig_timer",
        "ledtrig_heartbeat",
        "at24",
        "mcp23s08",
        "lm75",
        "bmp280_i2c",
        "dht11",
    ],
    modules::USB_SERIAL,
    &[
        // The Pi as a USB device: network and serial line over one cable.
        "g_ether",
        "g_serial",
        "usb_f_ecm",
        "usb_f_rndis",
        "usb_f_acm",
        "libcomposite",
        // What programs ask the kernel to compute.
        "sha256_arm64",
        "algif_hash",
        "algif_skcipher",
        "algif_aead",
    ],
];
