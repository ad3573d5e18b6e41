//! The reasons for which a device rejects an update. The API sends them as
//! [`ProblemKind::Update`](crate::api::problem::ProblemKind::Update).

use core::fmt;

/// A reason to reject an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No trusted key signed the update.
    Signature,
    /// It is not a bundle, is a newer one, or is malformed.
    Bundle,
    /// It is for another board.
    Board,
    /// Its programs need instructions that the processor lacks.
    Processor,
    /// It is for another appliance. `force` allows it.
    Appliance,
    /// It needs a newer protocol than the device supports.
    Protocol,
    /// A part does not fit in the slot.
    TooLarge,
    /// Its version is below the owner's floor, which must be lowered first.
    BelowFloor,
    /// This build failed its trial. `force` allows it.
    RejectedBefore,
    /// This build runs already. `force` allows it.
    Unchanged,
    /// Another session is in progress. `replace` ends it.
    SessionActive,
    /// The running slot is on trial: confirm it, or roll back, first.
    Unconfirmed,
    /// The inactive slot is armed. `replace` disarms it.
    Armed,
    /// The device does not run from slots of a cargo krazy disk.
    NoSlots,
    /// There is no session of this name.
    NoSession,
    /// The data does not continue at the device's position, which is the problem's `received`.
    Offset,
    /// A stream copies from a base that the device does not have.
    Base,
    /// A stream is damaged, or a part differs from the manifest. The session has ended.
    Content,
    /// The disk does not return what was written to it. The session has ended.
    ReadBack,
    /// Not everything has been received and verified yet.
    NotVerified,
    /// The slot is empty, or was not written completely.
    SlotIncomplete,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Refusal; 21] = [
        Refusal::Signature,
        Refusal::Bundle,
        Refusal::Board,
        Refusal::Processor,
        Refusal::Appliance,
        Refusal::Protocol,
        Refusal::TooLarge,
        Refusal::BelowFloor,
        Refusal::RejectedBefore,
        Refusal::Unchanged,
        Refusal::SessionActive,
        Refusal::Unconfirmed,
        Refusal::Armed,
        Refusal::NoSlots,
        Refusal::NoSession,
        Refusal::Offset,
        Refusal::Base,
        Refusal::Content,
        Refusal::ReadBack,
        Refusal::NotVerified,
        Refusal::SlotIncomplete,
    ];

    /// The name for programs; it never changes.
    pub const fn slug(self) -> &'static str {
        match self {
            Refusal::Signature => "update-signature",
            Refusal::Bundle => "update-bundle",
            Refusal::Board => "update-board",
            Refusal::Processor => "update-processor",
            Refusal::Appliance => "update-appliance",
            Refusal::Protocol => "update-protocol",
            Refusal::TooLarge => "update-too-large",
            Refusal::BelowFloor => "update-below-floor",
            Refusal::RejectedBefore => "update-rejected-before",
            Refusal::Unchanged => "update-unchanged",
            Refusal::SessionActive => "update-session-active",
            Refusal::Unconfirmed => "update-unconfirmed",
            Refusal::Armed => "update-armed",
            Refusal::NoSlots => "update-no-slots",
            Refusal::NoSession => "update-no-session",
            Refusal::Offset => "update-offset",
            Refusal::Base => "update-base",
            Refusal::Content => "update-content",
            Refusal::ReadBack => "update-read-back",
            Refusal::NotVerified => "update-not-verified",
            Refusal::SlotIncomplete => "update-slot-incomplete",
        }
    }

    /// The reason as a short sentence.
    pub const fn title(self) -> &'static str {
        match self {
            Refusal::Signature => "No trusted key signed the update",
            Refusal::Bundle => "Not a usable update bundle",
            Refusal::Board => "The update is for another board",
            Refusal::Processor => "The update is for another processor",
            Refusal::Appliance => "The update is for another appliance",
            Refusal::Protocol => "The update needs a newer protocol than the device supports",
            Refusal::TooLarge => "A part of the update does not fit in the slot",
            Refusal::BelowFloor => "The version of the update is below the floor",
            Refusal::RejectedBefore => "This build failed its trial",
            Refusal::Unchanged => "This build runs already",
            Refusal::SessionActive => "Another update is in progress",
            Refusal::Unconfirmed => "The running slot is on trial",
            Refusal::Armed => "The inactive slot is armed",
            Refusal::NoSlots => "This device has no slots",
            Refusal::NoSession => "No such update is in progress",
            Refusal::Offset => "The data does not continue at the device's offset",
            Refusal::Base => "The base of the update's delta is not on the device",
            Refusal::Content => "The update is damaged",
            Refusal::ReadBack => "The disk does not return what was written",
            Refusal::NotVerified => "The update is not complete yet",
            Refusal::SlotIncomplete => "The inactive slot cannot be booted",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.title())
    }
}
