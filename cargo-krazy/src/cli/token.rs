//! `cargo krazy token`.

use krazy_boot::api::credentials::{CredentialError, Role, Scope, check_name};

use crate::cli::device_args::DeviceArgs;
use crate::failure::{Exit, Explain, Result};
use crate::ops::token;
use crate::shell::Shell;

/// Adds, lists, exchanges and revokes the tokens of a device
///
/// A token lets others use the device without the secrets of its appliance. Their machine needs two certificates,
/// `NAME/secrets/authority.pem` in the state directory and, for a device that has not been pushed to yet,
/// `NAME/secrets/cert.pem`, and the token in the environment variable KRAZY_TOKEN, which every
/// command that talks to a device uses in place of the appliance's own token.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy token add anna kitchen
  KRAZY_TOKEN=krz_… cargo krazy status kitchen
  cargo krazy token revoke anna kitchen
  cargo krazy token show kitchen
  cargo krazy token rotate kitchen")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Makes a new token and prints it, this once
    ///
    /// The token is random and made on this machine. The device stores a salted hash, from which nobody can read it.
    Add(Add),
    /// Lists the tokens: names, roles and scopes
    List(DeviceArgs),
    /// Prints the token that this machine sends to a device
    ///
    /// For a browser or another program. Whoever has it can do with the device what you can.
    Show(DeviceArgs),
    /// Gives a device a new admin token in place of the appliance's own
    ///
    /// The new token is made on this machine, and the old one is revoked once the new one has worked. After an
    /// interruption, run the command again. New images get the new token. Other devices of the appliance keep the old
    /// one until they are rotated, too. A device with a token of its own gets another one, and a certificate with it.
    Rotate(DeviceArgs),
    /// Revokes a token: the device refuses it from now on
    ///
    /// The token in use and the last one with the role admin cannot be revoked.
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
struct Add {
    /// The token's name: its owner or its purpose
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    #[command(flatten)]
    device: DeviceArgs,
    /// The token's rights: a viewer reads, an admin changes
    #[arg(long, value_enum, default_value_t, help_heading = "Token")]
    role: RoleArg,
    /// Let an admin read and write files anywhere, not just below /data
    ///
    /// The token made with the first image does not have this right, but can give it.
    #[arg(long, help_heading = "Token")]
    whole_tree: bool,
}

#[derive(Debug, clap::Args)]
struct Revoke {
    /// The token's name
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    #[command(flatten)]
    device: DeviceArgs,
}

/// `--role`.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum RoleArg {
    /// Status, services, logs
    #[default]
    Viewer,
    /// Everything, updates and tokens included
    Admin,
}

/// A scope that the role cannot use.
#[derive(Debug, thiserror::Error)]
#[error("a viewer reads no files, so `--whole-tree` gives nothing")]
struct UselessScope;

impl Explain for UselessScope {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("add `--role admin`, or leave it out".to_owned())
    }
}

impl Args {
    pub(super) fn exec(self, shell: Shell) -> Result<()> {
        match self.action {
            Action::Add(args) => args.exec(shell),
            Action::List(device) => {
                let client = device.client()?;
                let tokens = token::list(&client)?;
                shell.report("token", &tokens.0, &tokens)
            }
            Action::Show(device) => {
                let client = device.client()?;
                let token = token::show(&client)?;
                shell.report("token", std::slice::from_ref(&token), &token)
            }
            Action::Rotate(device) => {
                token::check_rotation()?;
                let client = device.client()?;
                let token = token::rotate(&client)?;
                let (host, appliance) = (client.device(), client.appliance());
                let text = format!("token of `{appliance}` on `{host}`, called `{}` there", token.entry.name);
                shell.status("Rotated", text);
                shell.message("token-rotated", &token)
            }
            Action::Revoke(Revoke { name, device }) => {
                let client = device.client()?;
                let revoked = token::revoke(&client, &name)?;
                shell.status("Revoked", format!("token `{name}` of `{}`", client.device()));
                shell.message("token-revoked", &revoked)
            }
        }
    }
}

impl Add {
    fn exec(self, shell: Shell) -> Result<()> {
        let role = match self.role {
            RoleArg::Viewer if self.whole_tree => {
                return Err(UselessScope.into());
            }
            RoleArg::Viewer => Role::Viewer,
            RoleArg::Admin => Role::Admin,
        };
        let client = self.device.client()?;
        let scopes = if self.whole_tree { vec![Scope::WholeTree] } else { Vec::new() };
        // Before the token, which is shown only once.
        let certificate = token::certificate_for_others(&client)?;
        let token = token::add(&client, self.name, role, scopes)?;
        let text = format!("token `{}` ({}) to `{}`", token.entry.name, token.role(), client.device());
        shell.status("Added", text);
        shell.note("the token is shown only now; put it into the environment variable KRAZY_TOKEN");
        if let Some(path) = certificate {
            let name = client.appliance();
            shell.note(format!(
                "the other machine needs {} too, as {name}/secrets/authority.pem in its state directory",
                path.display()
            ));
        }
        shell.report("token-added", std::slice::from_ref(&token), &token)
    }
}

fn name(text: &str) -> Result<String, CredentialError> {
    check_name(text).map(|()| text.to_owned())
}
