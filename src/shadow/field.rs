//! What of two answers is compared, one by one: the status, headers, the body, or paths of its JSON.

use crate::shadow::Comparison;
use crate::shadow::sketch::Paths;

/// The cells in which all is compared that is not told by name.
pub const CELLS: usize = 64;
/// The most paths that are told by name.
pub const MAX_PATHS: usize = 256;

const HEADERS: u16 = 2;
const MAX_HEADERS: u16 = 62;
const FIRST_CELL: u16 = HEADERS + MAX_HEADERS;
const FIRST_PATH: u16 = FIRST_CELL + 64;

/// Something of two answers that is compared by itself, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Field(u16);

/// What kind of a difference it is where a field differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The status.
    Status,
    /// A header that is compared.
    Header,
    /// A body that is no JSON, or is too long: its length, or its beginning.
    Body,
    /// A path of JSON.
    Json,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Kind; 4] = [Kind::Status, Kind::Header, Kind::Body, Kind::Json];

    /// Its name in metrics and documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Status => "status",
            Kind::Header => "header",
            Kind::Body => "body",
            Kind::Json => "json",
        }
    }
}

/// Which of its kind a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The status.
    Status,
    /// The whole body.
    Body,
    /// A header, by its place in the list.
    Header(usize),
    /// All paths that are not told by name and fall into this cell.
    Cell(usize),
    /// A path that is told by name, by its place.
    Path(usize),
}

impl Field {
    /// The status.
    pub const STATUS: Field = Field(0);
    /// The whole body.
    pub const BODY: Field = Field(1);

    /// The header at that place of the list.
    #[must_use]
    pub fn header(i: usize) -> Field {
        Field(HEADERS + u16::try_from(i).unwrap_or(0).min(MAX_HEADERS - 1))
    }

    /// All paths that fall into a cell.
    #[must_use]
    pub fn cell(i: usize) -> Field {
        Field(FIRST_CELL + u16::try_from(i % CELLS).unwrap_or(0))
    }

    /// The path at that place among those that are told by name.
    #[must_use]
    pub fn path(i: usize) -> Field {
        Field(FIRST_PATH + u16::try_from(i % MAX_PATHS).unwrap_or(0))
    }

    /// Into which cell a path falls.
    #[must_use]
    pub fn cell_of(path: u64) -> usize {
        usize::try_from(path % 64).unwrap_or(0)
    }

    /// Which it is.
    #[must_use]
    pub fn which(self) -> Which {
        match self.0 {
            0 => Which::Status,
            1 => Which::Body,
            n @ HEADERS..FIRST_CELL => Which::Header(usize::from(n - HEADERS)),
            n @ FIRST_CELL..FIRST_PATH => Which::Cell(usize::from(n - FIRST_CELL)),
            n => Which::Path(usize::from(n - FIRST_PATH)),
        }
    }

    /// Of what kind it is.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self.which() {
            Which::Status => Kind::Status,
            Which::Body => Kind::Body,
            Which::Header(_) => Kind::Header,
            Which::Cell(_) | Which::Path(_) => Kind::Json,
        }
    }
}

impl Field {
    /// What it is called.
    #[must_use]
    pub fn name(self, comparison: &Comparison, paths: &Paths) -> String {
        match self.which() {
            Which::Status => "status".to_owned(),
            Which::Body => "body".to_owned(),
            Which::Header(i) => comparison.headers.get(i).map(|it| it.to_string()).unwrap_or_default(),
            Which::Cell(i) => format!("other paths, cell {i}"),
            Which::Path(i) => paths.text(i).unwrap_or_default().to_owned(),
        }
    }
}
