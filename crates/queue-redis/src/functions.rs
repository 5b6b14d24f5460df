//! The library of Redis functions.

use std::sync::LazyLock;

/// The functions, in parts. Without their version.
const CODE: &str = concat!(
    include_str!("lua/state.lua"),
    include_str!("lua/jobs.lua"),
    include_str!("lua/lanes.lua"),
    include_str!("lua/measures.lua"),
    include_str!("lua/views.lua"),
    include_str!("lua/register.lua"),
);

/// The library as Redis loads it.
pub(crate) struct Library {
    /// What `FUNCTION LOAD` takes.
    pub(crate) code: String,
    /// The end of the names of its functions.
    version: String,
}

pub(crate) static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let version = format!("{:08x}", crc32fast::hash(CODE.as_bytes()));
    let code = format!("#!lua name=postrider_{version}\n{}", CODE.replace("@version@", &version));
    Library { code, version }
});

/// A function of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Offer,
    OfferUnordered,
    Claim,
    Finish,
    Extend,
    Promote,
    Rescue,
    Configure,
    Pause,
    Resume,
    Hold,
    Release,
    Put,
    Waiting,
    Remove,
    Depth,
    LongestWait,
    Identity,
    Mark,
    CheckIn,
    CheckOut,
    Workers,
    List,
}

impl Function {
    /// Its name in Redis.
    pub(crate) fn name(self) -> String {
        let name = match self {
            Self::Offer => "offer",
            Self::OfferUnordered => "offer_unordered",
            Self::Claim => "claim",
            Self::Finish => "finish",
            Self::Extend => "extend",
            Self::Promote => "promote",
            Self::Rescue => "rescue",
            Self::Configure => "configure",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Put => "put",
            Self::Waiting => "waiting",
            Self::Remove => "remove",
            Self::Depth => "depth",
            Self::LongestWait => "longest_wait",
            Self::Identity => "identity",
            Self::Mark => "mark",
            Self::CheckIn => "check_in",
            Self::CheckOut => "check_out",
            Self::Workers => "workers",
            Self::List => "list",
        };
        format!("{name}_{}", LIBRARY.version)
    }
}
