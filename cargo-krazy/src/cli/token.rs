//! `cargo krazy token`.

use krazy_boot::api::credentials::{CredentialError, Role, Scope, check_name};
use serde::Serialize;

use crate::device::credentials::{self, VARIABLE};
use crate::device::tokens::{self, Entry};
use crate::device::{DeviceArgs, DeviceError, rotation};
use crate::failure::{Exit, Failure};
use crate::provision;
use crate::shell::{MessageFormat, Shell};
use crate::table::Table;

/// Adds, lists, exchanges and revokes the tokens of a device
///
/// Whoever has a token may use the device without the secrets of its appliance: all that is needed on their machine is
/// the certificate, `NAME/secrets/cert.pem` in the state directory, and the token in the environment variable
/// KRAZY_TOKEN, which every command that talks to a device uses in place of the appliance's own token.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  cargo krazy token add anna kitchen
  KRAZY_TOKEN=krz_… cargo krazy status kitchen
  cargo krazy token revoke anna kitchen
  cargo krazy token rotate kitchen")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Makes a new token and prints it, this once
    ///
    /// It is random and made on this machine; the device gets and stores a salted hash of it, so nobody can read it
    /// there.
    Add(Add),
    /// Lists the tokens: names, roles and scopes
    List(List),
    /// Gives a device a new admin token in the place of the appliance's own
    ///
    /// The new one is made here, and the old one is revoked once the new one has worked. Interrupted, it can be run
    /// again. New images get the new token. Other devices of the appliance keep the old one until they are rotated, too.
    Rotate(Rotate),
    /// Ends a token: who has it is refused from now on
    ///
    /// The device keeps the token in use, and the last one with the role admin.
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
struct Add {
    /// What it is called: whose it is, or what for
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    #[command(flatten)]
    device: DeviceArgs,
    /// What it may do: a viewer looks, an admin changes
    #[arg(long, value_enum, default_value_t, help_heading = "Token")]
    role: RoleArg,
    /// Let an admin read and write files anywhere, not just below /data
    ///
    /// The token made with the first image cannot do so itself, but give it.
    #[arg(long, help_heading = "Token")]
    whole_tree: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Debug, clap::Args)]
struct Revoke {
    /// What it is called
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

/// A token as `--message-format json` prints it.
#[derive(Serialize)]
struct Message<'a> {
    reason: &'static str,
    host: &'a str,
    #[serde(flatten)]
    entry: &'a Entry,
    /// The token itself, when it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

#[derive(Serialize)]
struct Revoked<'a> {
    reason: &'static str,
    host: &'a str,
    name: &'a str,
}

impl Args {
    /// Runs the command.
    pub fn exec(self, shell: Shell) -> anyhow::Result<()> {
        match self.action {
            Action::Add(args) => args.exec(shell),
            Action::List(args) => args.exec(shell),
            Action::Rotate(args) => args.exec(shell),
            Action::Revoke(args) => args.exec(shell),
        }
    }
}

impl Add {
    fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let role = match self.role {
            RoleArg::Viewer if self.whole_tree => {
                return Err(Failure::new(
                    Exit::Usage,
                    "a viewer reads no files, so `--whole-tree` gives nothing",
                )
                .help("add `--role admin`, or leave it out")
                .into());
            }
            RoleArg::Viewer => Role::Viewer,
            RoleArg::Admin => Role::Admin,
        };
        let client = self.device.client()?;
        let scopes = if self.whole_tree { vec![Scope::WholeTree] } else { Vec::new() };
        let entry = Entry { name: self.name, role, scopes, own: false };
        let token = tokens::add(&client, &entry)?.reveal();
        let host = client.device();
        shell.status("Added", format!("token `{}` ({}) to `{host}`", entry.name, word(entry.role)));
        shell.note("this is the only time it is shown; KRAZY_TOKEN takes it");
        if shell.format() == MessageFormat::Json {
            return shell.message(&Message {
                reason: "token-added",
                host,
                entry: &entry,
                token: Some(token),
            });
        }
        shell.output(format!("{token}\n"))
    }
}

impl List {
    fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        let entries = tokens::list(&client).map_err(DeviceError::into_failure)?;
        if shell.format() == MessageFormat::Json {
            let message = |entry| Message { reason: "token", host: client.device(), entry, token: None };
            return entries.iter().try_for_each(|entry| shell.message(&message(entry)));
        }
        let mut table = Table::new(["TOKEN", "ROLE", "SCOPES"]);
        for Entry { name, role, scopes, .. } in &entries {
            let scopes = if scopes.contains(&Scope::WholeTree) { "whole-tree" } else { "-" };
            table.row([name.clone(), word(*role).to_owned(), scopes.to_owned()]);
        }
        shell.output(table.to_string())
    }
}

impl Rotate {
    fn exec(self, shell: Shell) -> anyhow::Result<()> {
        if credentials::given() {
            let text =
                format!("{VARIABLE} holds another token than the appliance's own, which this would exchange");
            return Err(Failure::new(Exit::Usage, text)
                .help("unset it; or add a token and revoke the one in it")
                .into());
        }
        let client = self.device.client()?;
        let secrets = provision::load(client.appliance(), &provision::state_dir()?)?;
        let entry = rotation::rotate_token(&client, &secrets)?;
        let host = client.device();
        shell.status(
            "Rotated",
            format!("token of `{}` on `{host}`, called `{}` there", client.appliance(), entry.name),
        );
        shell.message(&Message { reason: "token-rotated", host, entry: &entry, token: None })
    }
}

impl Revoke {
    fn exec(self, shell: Shell) -> anyhow::Result<()> {
        let client = self.device.client()?;
        tokens::revoke(&client, &self.name)?;
        let (host, name) = (client.device(), self.name.as_str());
        shell.status("Revoked", format!("token `{name}` of `{host}`"));
        shell.message(&Revoked { reason: "token-revoked", host, name })
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Admin => "admin",
    }
}

fn name(text: &str) -> Result<String, CredentialError> {
    check_name(text).map(|()| text.to_owned())
}
