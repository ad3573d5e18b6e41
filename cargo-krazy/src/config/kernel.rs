//! The key `kernel`.

use serde_json::Value;

use super::table::{Table, shown};
use super::{KernelSource, names, schema};
use crate::board::Board;
use crate::failure::Failure;

/// The Debian release whose kernel is taken unless `suite` says otherwise.
pub const DEFAULT_SUITE: &str = "trixie";

/// What `kernel` is when it is not given: the board's kernel from the Debian archive.
pub fn default(board: &Board) -> KernelSource {
    KernelSource::Debian {
        package: board.debian_kernel.to_owned(),
        suite: DEFAULT_SUITE.to_owned(),
        mirror: None,
    }
}

/// The key `kernel` of `table`, if it is there.
pub fn read(table: &Table<'_>, board: &Board) -> Result<Option<KernelSource>, Failure> {
    match table.value("kernel") {
        None => Ok(None),
        Some(Value::String(name)) if name == "debian" => Ok(Some(default(board))),
        Some(Value::String(name)) => {
            Err(table.invalid("kernel", format!("must be \"debian\" or a table, not {name:?}")))
        }
        Some(Value::Object(_)) => match table.table("kernel")? {
            Some(kernel) => from_table(&kernel, board).map(Some),
            None => Ok(None),
        },
        Some(_) => Err(table.wrong_type("kernel", "\"debian\" or a table")),
    }
}

fn from_table(kernel: &Table<'_>, board: &Board) -> Result<KernelSource, Failure> {
    kernel.check_keys(schema::KERNEL)?;
    let debian: &[&str] = &["debian", "suite", "mirror"];
    let groups: [&[&str]; 3] = [debian, &["url", "sha256"], &["path"]];
    let used: Vec<_> = groups.iter().filter_map(|group| group.iter().find(|key| kernel.has(key))).collect();
    match used[..] {
        [] => Err(kernel.itself_invalid("is empty; it needs `debian`, `url` and `sha256`, or `path`")),
        [first, second, ..] => {
            Err(kernel.invalid(second, format!("cannot stand beside `{first}`: a kernel has one source")))
        }
        [&"path"] => {
            let path = kernel.folder().join(kernel.string("path")?.unwrap_or_default());
            if !path.exists() {
                let problem = format!("leads to {}, which does not exist", shown(&path).display());
                return Err(kernel.invalid("path", problem));
            }
            Ok(KernelSource::Path(path))
        }
        [&("url" | "sha256")] => {
            match (kernel.parsed("url", names::http_url)?, kernel.parsed("sha256", names::sha256)?) {
                (Some(url), Some(sha256)) => Ok(KernelSource::Url { url, sha256 }),
                (None, _) => Err(kernel.invalid("sha256", "needs `url` beside it")),
                (_, None) => {
                    Err(kernel.invalid("url", "needs `sha256` beside it: the file's SHA-256 in hex"))
                }
            }
        }
        [_] => {
            let word =
                |text: &str| match text.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c)) {
                    true if !text.is_empty() => Ok(text.to_owned()),
                    _ => Err("a name in the Debian archive"),
                };
            let package = kernel.parsed("debian", word)?;
            let suite = kernel.parsed("suite", word)?;
            Ok(KernelSource::Debian {
                package: package.unwrap_or_else(|| board.debian_kernel.to_owned()),
                suite: suite.unwrap_or_else(|| DEFAULT_SUITE.to_owned()),
                mirror: kernel.parsed("mirror", names::http_url)?,
            })
        }
    }
}
