// SPDX-License-Identifier: GPL-2.0
//! The trace: one JSON object per line for everything a driver did that is worth counting.
//!
//! The format is documented in Documentation/psp-emu.rst; fields are only ever added.

use crate::{
    device::{Accesses, Record},
    firmware::command_name,
    guest_requests::device as guest_requests,
    model::{Model, Version},
};
use std::{fs::File, io, io::Write, path::Path, time::Duration};

/// Version of the format, in the first line.
const FORMAT: u32 = 1;

/// Writes trace lines, each with one system call so that a killed emulator leaves whole lines.
#[derive(Debug)]
pub struct Trace {
    file: File,
}

impl Trace {
    /// Creates (or empties) the file and writes the first line.
    ///
    /// # Errors
    ///
    /// When the file cannot be created or written.
    pub fn create(path: &Path, model: &Model, version: Version) -> io::Result<Self> {
        let mut trace = Self {
            file: File::create(path)?,
        };
        let line = format!(
            r#"{{"event":"start","format":{FORMAT},"model":"{}","version":"{version}"}}"#,
            model.name
        );
        trace.line(line)?;
        Ok(trace)
    }

    /// A VM has connected.
    ///
    /// # Errors
    ///
    /// As for writing to a file.
    pub fn connect(&mut self, time: Duration) -> io::Result<()> {
        self.line(format!(
            r#"{{"event":"connect","time":{:.6}}}"#,
            time.as_secs_f64()
        ))
    }

    /// A VM has gone; `rest` is what it accessed after its last command.
    ///
    /// # Errors
    ///
    /// As for writing to a file.
    pub fn disconnect(&mut self, time: Duration, rest: Accesses) -> io::Result<()> {
        self.line(format!(
            r#"{{"event":"disconnect","time":{:.6},"reads":{},"writes":{}}}"#,
            time.as_secs_f64(),
            rest.reads,
            rest.writes
        ))
    }

    /// A command was taken.
    ///
    /// # Errors
    ///
    /// As for writing to a file.
    pub fn command(&mut self, record: &Record) -> io::Result<()> {
        let (status, status_name) = match record.status {
            Some(status) => (status.0.to_string(), status.name().unwrap_or("?")),
            None => ("null".to_owned(), "NONE"),
        };
        let queue = record.queue.map_or_else(String::new, |queue| {
            format!(r#","queue":"{}""#, queue.name())
        });
        self.line(format!(
            r#"{{"event":"command","time":{:.6},"id":{},"name":"{}","addr":"{:#x}","status":{status},"status_name":"{status_name}","interrupt":{},"reads":{},"writes":{}{queue}}}"#,
            record.time.as_secs_f64(),
            record.id,
            command_name(record.id).unwrap_or("?"),
            record.addr,
            record.interrupt,
            record.accesses.reads,
            record.accesses.writes
        ))
    }

    /// A guest request was carried out.
    ///
    /// # Errors
    ///
    /// As for writing to a file.
    pub fn guest_request(
        &mut self,
        time: Duration,
        record: &guest_requests::Record,
    ) -> io::Result<()> {
        let guest_requests::Record {
            exit_code,
            places,
            answer,
            fault,
        } = record;
        let fault = fault.map_or_else(String::new, |fault| format!(r#","fault":"{fault:?}""#));
        self.line(format!(
            r#"{{"event":"guest_request","time":{:.6},"exit_code":"{exit_code:#x}","pages":{},"firmware":{},"vmm":{}{fault}}}"#,
            time.as_secs_f64(),
            places.pages,
            answer.firmware,
            answer.vmm
        ))
    }

    fn line(&mut self, mut line: String) -> io::Result<()> {
        line.push('\n');
        self.file.write_all(line.as_bytes())
    }
}
