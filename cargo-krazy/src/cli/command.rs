//! The table of subcommands.

use super::{
    audit, bundle, certificate, data, discover, doctor, floor, get, image, inspect, kernel, key, logs, order,
    ps, push, put, run_qemu, schema, service, status, switch, token, update, vendor,
};
use crate::failure::Result;
use crate::shell::Shell;

/// Declares [`Command`]: each line is a subcommand and its arguments, whose documentation is the subcommand's help.
macro_rules! commands {
    ($($(#[$attribute:meta])* $command:ident($args:path),)*) => {
        /// The subcommands, in the order of `--help`.
        #[derive(Debug, clap::Subcommand)]
        pub(super) enum Command {
            $($(#[$attribute])* $command($args),)*
        }

        impl Command {
            /// Runs the command.
            pub(super) fn exec(self, shell: Shell) -> Result<()> {
                match self {
                    $(Command::$command(args) => args.exec(shell),)*
                }
            }
        }
    };
}

commands! {
    Image(image::Args),
    Inspect(inspect::Args),
    Doctor(doctor::Args),
    Audit(audit::Args),
    Kernel(kernel::Args),
    Update(update::Args),
    Vendor(vendor::Args),
    RunQemu(run_qemu::Args),
    Push(push::Args),
    Bundle(bundle::Args),
    Discover(discover::Args),
    Status(status::Args),
    Ps(ps::Args),
    Logs(logs::Args),
    Service(service::Args),
    Get(get::Args),
    Put(put::Args),
    #[command(flatten)]
    Order(order::Args),
    Data(data::Args),
    Switch(switch::Args),
    Floor(floor::Args),
    Token(token::Args),
    Certificate(certificate::Args),
    Key(key::Args),
    Schema(schema::Args),
}
