//! What the command reads and edits as text: all that may stand there is somebody else's.
//!
//! * `curl`: command lines of curl.
//! * `access_log`: lines of an access log; `log_format`: how such lines are told apart.
//! * `edit`: edits of a policy's text.

pub mod access_log;
pub mod curl;
pub mod edit;
pub mod log_format;
