//! Devices by board: one appliance may run on several boards, and each board gets a build of its own.

use super::Ready;
use super::outcome::{Outcome, Report};
use crate::board::Board;
use crate::failure::{Exit, Explain};

/// Devices of one board.
pub(super) type Group<'a> = (&'static Board, Vec<Ready<'a>>);

/// A device that no build is made for.
#[derive(Debug, thiserror::Error)]
enum BoardError {
    #[error("`{device}` is `{board}`, a board that is not known here")]
    Unknown { device: String, board: String },
    #[error("`{device}` is {board}, and `--target {target}` was given")]
    NotTarget { device: String, board: &'static str, target: &'static str },
}

impl Explain for BoardError {
    fn exit(&self) -> Exit {
        Exit::Device
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            BoardError::Unknown { .. } => "install a newer cargo-krazy",
            BoardError::NotTarget { .. } => "leave it out: then each device gets a build for its own board",
        };
        Some(help.to_owned())
    }
}

/// Returns the devices, board by board. The second list has the reports of those whose board is not `target`, or not
/// known here.
pub(super) fn by_board<'a>(
    ready: Vec<Ready<'a>>,
    target: Option<&'static Board>,
) -> (Vec<Group<'a>>, Vec<Report>) {
    let (mut groups, mut failed): (Vec<Group<'a>>, _) = (Vec::new(), Vec::new());
    for device in ready {
        let board = match board_of(&device.preflight.board, device.client.device(), target) {
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

fn board_of(name: &str, device: &str, target: Option<&'static Board>) -> Result<&'static Board, BoardError> {
    let device = device.to_owned();
    match (Board::named(name), target) {
        (Err(_), _) => Err(BoardError::Unknown { device, board: name.to_owned() }),
        (Ok(board), Some(target)) if board != target => {
            Err(BoardError::NotTarget { device, board: board.name, target: target.name })
        }
        (Ok(board), _) => Ok(board),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_gets_a_build_for_its_own_board() {
        let pi = Board::named("aarch64-rpi").unwrap();
        assert_eq!(board_of("aarch64-rpi", "attic", None).unwrap(), pi);
        assert_eq!(board_of("aarch64-rpi", "attic", Some(pi)).unwrap(), pi);
        let error = board_of("x86_64", "attic", Some(pi)).unwrap_err();
        assert_eq!(error.to_string(), "`attic` is x86_64, and `--target aarch64-rpi` was given");
        let error = board_of("pdp-11", "attic", None).unwrap_err();
        assert_eq!(error.to_string(), "`attic` is `pdp-11`, a board that is not known here");
    }
}
