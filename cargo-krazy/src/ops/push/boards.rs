//! Devices by the board they are: one appliance may run on several, and each board gets a build of its own.

use super::Ready;
use super::outcome::{Outcome, Report};
use crate::board::Board;
use crate::failure::{Exit, Failure};

/// Devices of one board.
pub type Group<'a> = (&'static Board, Vec<Ready<'a>>);

/// The devices, board by board. Those that are not `wanted`, or of a board that is not known here, are told in the
/// second list.
pub fn by_board<'a>(ready: Vec<Ready<'a>>, wanted: Option<&Board>) -> (Vec<Group<'a>>, Vec<Report>) {
    let (mut groups, mut failed): (Vec<Group<'a>>, _) = (Vec::new(), Vec::new());
    for device in ready {
        let board = match board_of(&device.preflight.board, device.client.device(), wanted) {
            Ok(board) => board,
            Err(error) => {
                failed.push(Report::new(device.client, Outcome::failed("preflight", error.into())));
                continue;
            }
        };
        match groups.iter_mut().find(|(known, _)| *known == board) {
            Some((_, devices)) => devices.push(device),
            None => groups.push((board, vec![device])),
        }
    }
    (groups, failed)
}

fn board_of(name: &str, device: &str, wanted: Option<&Board>) -> Result<&'static Board, Failure> {
    let board = Board::named(name).map_err(|_| {
        Failure::new(Exit::Device, format!("`{device}` is `{name}`, a board that is not known here"))
            .help("install a newer cargo-krazy")
    })?;
    match wanted {
        Some(wanted) if wanted != board => {
            let text = format!("`{device}` is {name}, and `--target {}` was given", wanted.name);
            Err(Failure::new(Exit::Device, text)
                .help("leave it out: then each device gets a build for its own board"))
        }
        _ => Ok(board),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_says_what_is_built_for_it() {
        let pi = Board::named("aarch64-rpi").unwrap();
        assert_eq!(board_of("aarch64-rpi", "attic", None).unwrap(), pi);
        assert_eq!(board_of("aarch64-rpi", "attic", Some(pi)).unwrap(), pi);
        let error = board_of("x86_64", "attic", Some(pi)).unwrap_err();
        assert_eq!(error.to_string(), "`attic` is x86_64, and `--target aarch64-rpi` was given");
        let error = board_of("pdp-11", "attic", None).unwrap_err();
        assert_eq!(error.to_string(), "`attic` is `pdp-11`, a board that is not known here");
    }
}
