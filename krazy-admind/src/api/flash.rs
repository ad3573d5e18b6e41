//! Raw writes to the whole disk or one partition, read back past the page cache.
//!
//! Nothing here keeps a device bootable; updates do.

use std::sync::Arc;

use futures_util::StreamExt;
use krazy_boot::disk::layout::Extent;
use krazy_boot::disk::mbr::Mbr;
use krazy_boot::disk::size::{Bytes, SECTOR_SIZE, Sectors};
use krazy_boot::disk::slot::Slot;
use krazy_boot::update::engine::{self, Target};
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use warp::http::{StatusCode, header};
use warp::reply::Response;

use crate::api::{Admin, Call, empty};
use crate::device::update::{Disk, Purpose};
use crate::problem::{Kind, Problem};
use crate::task::blocking;

/// Pieces are gathered to this many bytes before they are written.
const BUFFER_LEN: usize = 256 * 1024;

/// The number of bytes between two syncs, so that dirty pages do not fill the memory.
const SYNC_INTERVAL: u64 = 16 << 20;

/// A raw write in progress.
struct Flash {
    disk: Disk,
    /// The name of the target in messages.
    target: String,
    extent: Extent,
    written: u64,
    sha256: Sha256,
    unsynced: u64,
}

/// Writes the body to partition `number`, or to the whole disk, from the start on.
pub(super) async fn flash(
    admin: &Arc<Admin>,
    number: Option<u8>,
    force: bool,
    call: Call,
) -> Result<Response, Problem> {
    let target = number.map_or("the disk".to_owned(), |number| format!("partition {number}"));
    let _quiet = admin.updates.keep_away().await?;
    let boot = admin.control.boot().await?;
    let node = boot.disk.clone().ok_or_else(|| {
        Problem::new(
            Kind::NotNow,
            "the root is not on a disk of cargo krazy, so it is not known which to write",
        )
    })?;
    // Init mounts /boot and /data; the root that runs is mounted for sure.
    let running = boot.slot.map(Slot::root_partition);
    let used = number.is_none_or(|number| number == 1 || number == 4 || Some(number) == running);
    if used && !force {
        let text = format!("{target} is in use by the running system; `?force=true` writes it all the same");
        return Err(Problem::new(Kind::InUse, text));
    }
    let other = boot.slot.map(|slot| !slot).filter(|slot| number == Some(slot.root_partition()));
    if other.is_some() && boot.armed == other && !force {
        return Err(Problem::new(Kind::InUse, format!("{target} is armed: the next start mounts it")));
    }

    let root = admin.root.clone();
    let mut flash = blocking(move || {
        let disk =
            Disk::open(&root, &node, Purpose::Write).map_err(|error| Problem::from_io(&error, &node))?;
        Flash::begin(disk, target, number, other)
    })
    .await?;
    let len = call.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if len.is_some_and(|len: u64| len > flash.extent.len.bytes().0) {
        return Err(flash.too_long());
    }
    let mut body = call.body;
    let mut gathered = Vec::with_capacity(BUFFER_LEN);
    loop {
        let piece = timeout(admin.upload_pause, body.next()).await.map_err(|_| {
            Problem::new(Kind::Timeout, format!("nothing came for {} s", admin.upload_pause.as_secs()))
        })?;
        let last = piece.is_none();
        if let Some(piece) = piece {
            let piece = piece
                .map_err(|error| Problem::new(Kind::BadRequest, format!("the upload broke off: {error}")))?;
            gathered.extend_from_slice(&piece);
        }
        if last || gathered.len() >= BUFFER_LEN {
            (flash, gathered) = blocking(move || {
                flash.write(&gathered)?;
                gathered.clear();
                Ok((flash, gathered))
            })
            .await?;
        }
        if last {
            return blocking(move || flash.finish()).await.map(|()| empty(StatusCode::NO_CONTENT));
        }
    }
}

impl Flash {
    /// Finds the extent. Removes the record of a slot whose root is written, because it becomes wrong.
    fn begin(
        mut disk: Disk,
        target: String,
        number: Option<u8>,
        other: Option<Slot>,
    ) -> Result<Self, Problem> {
        let extent = match number {
            Some(number) => {
                let mut sector = [0; SECTOR_SIZE as usize];
                disk.read_back(Bytes(0), &mut sector)
                    .map_err(|error| Problem::from_io(&error, "the disk"))?;
                let layout = Mbr::decode(&sector)
                    .map_err(|error| Problem::new(Kind::Internal, error.to_string()))?
                    .layout;
                let [boot, root_a, root_b, data] = layout.partitions();
                match number {
                    1 => boot,
                    2 => root_a,
                    3 => root_b,
                    _ => data,
                }
            }
            None => {
                let len = disk.len().map_err(|error| Problem::from_io(&error, "the disk"))?;
                Extent { start: Sectors(0), len: len.sectors_floor().unwrap_or(Sectors(u32::MAX)) }
            }
        };
        if let Some(slot) = other {
            engine::remove_record(&mut disk, slot).map_err(Problem::from_engine)?;
        }
        Ok(Flash { disk, target, extent, written: 0, sha256: Sha256::new(), unsynced: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        if self.written + bytes.len() as u64 > self.extent.len.bytes().0 {
            return Err(self.too_long());
        }
        let at = Bytes(self.extent.start.bytes().0 + self.written);
        self.disk.write_at(at, bytes).map_err(|error| Problem::from_io(&error, &self.target))?;
        self.sha256.update(bytes);
        self.written += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_INTERVAL {
            self.unsynced = 0;
            self.disk.sync().map_err(|error| Problem::from_io(&error, &self.target))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Problem> {
        let failed = |error| Problem::from_io(&error, &self.target);
        self.disk.sync().map_err(failed)?;
        let (mut found, mut piece) = (Sha256::new(), vec![0; BUFFER_LEN]);
        let mut at = 0;
        while at < self.written {
            let len = (self.written - at).min(BUFFER_LEN as u64) as usize;
            let position = Bytes(self.extent.start.bytes().0 + at);
            self.disk.read_back(position, &mut piece[..len]).map_err(failed)?;
            found.update(&piece[..len]);
            at += len as u64;
        }
        if found.finalize() != self.sha256.finalize() {
            let text = format!("{} does not return what was written to it", self.target);
            return Err(Problem::new(Kind::Internal, text));
        }
        crate::log::write(format_args!("{} was written by hand, {}", self.target, Bytes(self.written)));
        Ok(())
    }

    fn too_long(&self) -> Problem {
        let text = format!("{} has {}, more was sent", self.target, self.extent.len.bytes());
        Problem::new(Kind::BodyTooLarge, text)
    }
}
