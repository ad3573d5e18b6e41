//! Options of the commands that build an appliance.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use krazy_boot::disk::size::Bytes;

use crate::board::{BOARDS, Board};
use crate::config::{OwnFeatures, Request};

/// Options of every command that builds an appliance.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildArgs {
    /// The package with the metadata [default: that of the working directory, or the only one with a table]
    #[arg(short, long, value_name = "SPEC", help_heading = "Package selection")]
    package: Option<String>,
    #[command(flatten, next_help_heading = "Package selection")]
    manifest: clap_cargo::Manifest,
    #[command(flatten, next_help_heading = "Feature selection")]
    features: clap_cargo::Features,
    /// The board the appliance is for [default: x86_64]
    #[arg(long, value_name = "BOARD", value_parser = board_parser(), help_heading = "Build")]
    target: Option<&'static Board>,
    /// Cargo profile of the own package [default: the metadata's, else release]
    #[arg(long, value_name = "NAME", help_heading = "Build")]
    profile: Option<String>,
    /// Size of the disk, such as `4GiB` [default: the metadata's, else 1 GiB]
    #[arg(long, value_name = "SIZE", help_heading = "Build")]
    size: Option<Bytes>,
    /// Fail if the workspace's Cargo.lock is missing or out of date
    #[arg(long, help_heading = "Build")]
    locked: bool,
    /// Do not use the network
    #[arg(long, help_heading = "Build")]
    offline: bool,
}

impl BuildArgs {
    /// The board, if one is asked for.
    pub(crate) fn board(&self) -> Option<&'static Board> {
        self.target
    }

    /// The same as what to build.
    pub(crate) fn resolve(self) -> Request {
        Request {
            manifest_path: self.manifest.manifest_path,
            package: self.package,
            board: self.target.unwrap_or(&BOARDS[0]),
            features: OwnFeatures {
                features: self
                    .features
                    .features
                    .iter()
                    .flat_map(|list| list.split(','))
                    .filter(|feature| !feature.is_empty())
                    .map(str::to_owned)
                    .collect(),
                all_features: self.features.all_features,
                no_default_features: self.features.no_default_features,
            },
            profile: self.profile,
            disk: self.size,
            locked: self.locked,
            offline: self.offline,
        }
    }
}

/// Takes a board's name; clap lists the boards and suggests the nearest.
pub(crate) fn board_parser() -> impl TypedValueParser<Value = &'static Board> {
    let values = BOARDS.iter().map(|board| PossibleValue::new(board.name).help(board.description));
    PossibleValuesParser::new(values).try_map(|name| Board::named(&name))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn features_may_be_separated_by_commas_and_spaces() {
        #[derive(Parser)]
        struct Build {
            #[command(flatten)]
            args: BuildArgs,
        }
        let build = Build::try_parse_from(["build", "-F", "a,b c", "--features", "d"]).unwrap();
        assert_eq!(build.args.resolve().features.features, ["a", "b", "c", "d"]);
    }
}
