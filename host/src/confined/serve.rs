//! The child's end of the pipes.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use super::frame::{DONE, REFUSED};

/// Does the work for every question that comes on stdin, until there are no more. A panic of the work ends the process,
/// and its text goes to the gateway.
///
/// # Errors
/// Stdin or stdout failed in the middle of a frame.
pub fn serve(mut work: impl FnMut(&[u8]) -> Result<Vec<u8>, String>) -> io::Result<ExitCode> {
    let (mut stdin, mut stdout) = (io::stdin().lock(), io::stdout().lock());
    while let Some(question) = question(&mut stdin)? {
        let (tag, answer) = match work(&question) {
            Ok(answer) => (DONE, answer),
            Err(reason) => (REFUSED, reason.into_bytes()),
        };
        let length = u32::try_from(answer.len()).map_err(io::Error::other)?;
        stdout.write_all(&[tag])?;
        stdout.write_all(&length.to_le_bytes())?;
        stdout.write_all(&answer)?;
        stdout.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The next frame; none at the end.
fn question(stdin: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if stdin.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    stdin.read_exact(&mut length[1..])?;
    let length = u64::from(u32::from_le_bytes(length));
    let mut question = Vec::new();
    if stdin.take(length).read_to_end(&mut question)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(question))
}
