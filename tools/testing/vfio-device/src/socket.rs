// SPDX-License-Identifier: GPL-2.0
//! The listening socket: created without ever touching someone else's file, removed when done.

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    fs,
    io::{self, ErrorKind},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process, thread,
};

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("{}: another program is listening on this socket", .0.display())]
    InUse(PathBuf),
    #[error("{}: exists and is no socket; not touching it", .0.display())]
    Foreign(PathBuf),
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A bound socket file; dropping it removes the file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that only our own file is ever removed.
    identity: (u64, u64),
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

/// Makes room at `path`: nothing there, or a socket nobody listens on any more.
fn clear_stale(path: &Path) -> Result<(), SocketError> {
    let io = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(SocketError::Foreign(path.to_owned()))
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(io)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io(error)),
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
    }
}

/// Binds `path` for listening.
///
/// The file appears only once it accepts connections, so its existence can be waited for.
///
/// # Errors
///
/// When the path is in use, is something other than a dead socket, or cannot be bound. Nothing is
/// left behind then.
pub fn bind(path: &Path) -> Result<(OwnedFd, SocketFile), SocketError> {
    let io = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    clear_stale(path)?;
    // Bound under another name first: between bind and listen a socket refuses connections.
    let mut name = path
        .file_name()
        .ok_or_else(|| io(ErrorKind::InvalidInput.into()))?
        .to_owned();
    name.push(format!(".{}", process::id()));
    let temporary = path.with_file_name(name);
    let listener = UnixListener::bind(&temporary).map_err(io)?;
    let linked = fs::hard_link(&temporary, path).and_then(|()| identity(path));
    let removed = fs::remove_file(&temporary);
    let identity = match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(SocketError::InUse(path.to_owned()))
        }
        other => other.map_err(io)?,
    };
    removed.map_err(io)?;
    Ok((
        listener.into(),
        SocketFile {
            path: path.to_owned(),
            identity,
        },
    ))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Nobody is left to tell when this fails, and the next start clears it up.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Ends the program cleanly at a signal.
///
/// Nothing else is done: what a program keeps in files has to be right at any moment.
///
/// # Errors
///
/// When signals cannot be waited for.
pub fn exit_on_signal(file: SocketFile) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let wait = move || {
        if signals.forever().next().is_some() {
            drop(file);
            process::exit(0);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("vfio-device-socket-{}-{name}", process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn live_socket_is_refused_and_survives() {
        let dir = scratch("live");
        let path = dir.join("psp.sock");
        let (_listener, file) = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
        assert!(path.exists());
        drop(file);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        fs::remove_dir(dir).unwrap();
    }

    #[test]
    fn stale_socket_is_replaced() {
        let dir = scratch("stale");
        let path = dir.join("psp.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, _file) = bind(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn foreign_files_are_not_touched() {
        let dir = scratch("foreign");
        let path = dir.join("psp.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::Foreign(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(dir.join("nowhere"), &path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::Foreign(_))));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_put_in_our_place_is_not_removed() {
        let dir = scratch("replaced");
        let path = dir.join("psp.sock");
        let (_listener, file) = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        drop(file);
        assert!(path.exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
