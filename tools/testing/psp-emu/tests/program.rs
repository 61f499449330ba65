// SPDX-License-Identifier: GPL-2.0
//! The program: options, messages, signals, the socket, the trace, and being killed.

mod common;

use common::id;
use psp_emu::{
    cert::sev::SevCert,
    firmware::{Firmware, Status},
    model::MILAN,
    state_dir::StateDir,
};
use rustix::process::{kill_process, Pid, Signal};
use std::{
    fs,
    io::Read,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{FileExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use vfio_bindings::bindings::vfio::{VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR2_REGION_INDEX};
use vfio_user::Client;

/// A directory with the program's files in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_psp-emu"));
        command
            .arg("--socket")
            .arg(self.path("sock"))
            .arg("--state")
            .arg(self.path("state"));
        command
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .stdin(Stdio::null());
        command
    }

    /// Starts the program and waits for its socket.
    fn start(&self, arguments: &[&str]) -> Running {
        let child = self.command().args(arguments).spawn().unwrap();
        let socket = self.path("sock");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            assert!(Instant::now() < deadline, "no socket");
            thread::sleep(Duration::from_millis(2));
        }
        Running { child, socket }
    }

    /// Runs the program, which is to fail; returns its status and what it said.
    fn refused(&self, arguments: &[&str]) -> (Option<i32>, String) {
        ended(self.command().args(arguments))
    }
}

/// Runs a program that is to end by itself; returns its status and what it said on standard error.
fn ended(command: &mut Command) -> (Option<i32>, String) {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Killed at the end of this function if it does not.
    let mut running = Running {
        child: command.spawn().unwrap(),
        socket: PathBuf::new(),
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while running.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "still running");
        thread::sleep(Duration::from_millis(2));
    }
    let (mut said, mut printed) = (String::new(), String::new());
    running
        .child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    running
        .child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut printed)
        .unwrap();
    assert_eq!(printed, "");
    (running.child.wait().unwrap().code(), said)
}

/// A running program; killed when dropped.
struct Running {
    child: Child,
    socket: PathBuf,
}

impl Running {
    fn signal(&mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap()
    }

    fn vm(&self) -> Vm {
        let mut client = Client::new(&self.socket).unwrap();
        let ram = tempfile::tempfile().unwrap();
        ram.set_len(0x1_0000).unwrap();
        client.dma_map(0, 0, 0x1_0000, ram.as_raw_fd()).unwrap();
        Vm { client, ram }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Vm {
    client: Client,
    ram: fs::File,
}

impl Vm {
    /// Writes a command whose buffer, at 0x100, is all zero; returns the response register.
    fn command(&mut self, id: u16) -> Result<u32, vfio_user::Error> {
        let map = MILAN.registers;
        self.ram.write_all_at(&[0; 64], 0x100).unwrap();
        for (offset, value) in [
            (map.addr_lo, 0x100),
            (map.addr_hi, 0),
            (map.cmdresp, u32::from(id) << 16),
        ] {
            let value: u32 = value;
            self.client
                .region_write(VFIO_PCI_BAR2_REGION_INDEX, offset, &value.to_le_bytes())?;
        }
        let mut response = [0; 4];
        self.client
            .region_read(VFIO_PCI_BAR2_REGION_INDEX, map.cmdresp, &mut response)?;
        Ok(u32::from_le_bytes(response))
    }
}

const READY: u32 = 1 << 31;

#[test]
fn signals_end_it_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new();
        let mut program = place.start(&[]);
        let mut vm = program.vm();
        assert_eq!(vm.command(id::INIT).unwrap(), READY);
        assert_eq!(program.signal(signal).code(), Some(0));
        assert!(!place.path("sock").exists());
        let mut names: Vec<_> = fs::read_dir(place.0.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["state"]);
    }
}

#[test]
fn bad_options_are_explained() {
    let place = Place::new();
    for (arguments, expected) in [
        (
            &["--model", "zen"][..],
            "unknown model \"zen\" (known: naples, rome, milan, genoa, turin)",
        ),
        (&["--fault", "explode"], "unknown fault \"explode\""),
        (&["--fault", "late"], "needs an argument"),
        (
            &["--fault", "no-response:NOSUCH"],
            "\"NOSUCH\" is no command",
        ),
        (&["--frobnicate"], "unexpected argument '--frobnicate'"),
        (&["--socket", "twice"], "cannot be used multiple times"),
    ] {
        let (code, message) = place.refused(arguments);
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains(expected), "{message}");
        assert_eq!(
            fs::read_dir(place.0.path()).unwrap().count(),
            0,
            "nothing made"
        );
    }
    let (code, message) = ended(&mut Command::new(env!("CARGO_BIN_EXE_psp-emu")));
    assert_eq!(code, Some(2));
    assert!(message.contains("--socket <PATH>"), "{message}");
}

#[test]
fn second_user_of_a_state_directory_is_refused() {
    let place = Place::new();
    let mut program = place.start(&[]);
    let mut second = Command::new(env!("CARGO_BIN_EXE_psp-emu"));
    second
        .arg("--socket")
        .arg(place.path("other"))
        .arg("--state")
        .arg(place.path("state"));
    let (code, message) = ended(&mut second);
    assert_eq!(code, Some(1));
    assert!(message.contains("in use by another emulator"), "{message}");
    assert!(!place.path("other").exists());
    assert_eq!(program.vm().command(id::DF_FLUSH).unwrap(), READY);
    program.signal(Signal::TERM);
}

#[test]
fn sockets_in_use_and_foreign_files_are_refused() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path("sock")).unwrap();
    let (code, message) = place.refused(&[]);
    assert_eq!(code, Some(1));
    assert!(
        message.contains("another program is listening"),
        "{message}"
    );
    drop(listener);
    fs::remove_file(place.path("sock")).unwrap();
    fs::write(place.path("sock"), "precious").unwrap();
    let (code, message) = place.refused(&[]);
    assert_eq!(code, Some(1));
    assert!(message.contains("is no socket"), "{message}");
    assert_eq!(fs::read(place.path("sock")).unwrap(), b"precious");
}

#[test]
fn a_dead_emulators_socket_is_replaced() {
    let place = Place::new();
    place.start(&[]).signal(Signal::KILL);
    assert!(place.path("sock").exists());
    // `start` would find the old socket, so wait until somebody answers.
    let program = Running {
        child: place.command().spawn().unwrap(),
        socket: place.path("sock"),
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while Client::new(&program.socket).is_err() {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn unwritable_places_are_explained() {
    let place = Place::new();
    let (code, message) = place.refused(&["--trace", "/nonexistent/trace"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("/nonexistent/trace"), "{message}");
    assert!(!place.path("sock").exists());
    let mut command = Command::new(env!("CARGO_BIN_EXE_psp-emu"));
    command
        .args(["--socket", "/nonexistent/sock", "--state"])
        .arg(place.path("state"));
    let (code, message) = ended(&mut command);
    assert_eq!(code, Some(1));
    assert!(message.contains("/nonexistent/sock"), "{message}");
}

#[test]
fn trace_has_a_line_for_each_command() {
    let place = Place::new();
    let trace = place.path("trace");
    let mut program = place.start(&[
        "--model",
        "milan",
        "--fault",
        "no-response:NOP",
        "--trace",
        trace.to_str().unwrap(),
    ]);
    for _ in 0..2 {
        let mut vm = program.vm();
        vm.command(id::PLATFORM_STATUS).unwrap();
        vm.command(id::PEK_GEN).unwrap();
        vm.command(id::NOP).unwrap();
    }
    // The second VM's end is noticed after its last answer.
    thread::sleep(Duration::from_millis(200));
    program.signal(Signal::TERM);
    let trace = fs::read_to_string(trace).unwrap();
    let lines: Vec<&str> = trace.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"event":"start","format":1,"model":"milan","version":"1.55.21"}"#
    );
    let one_vm = [
        r#"{"event":"connect","time":T}"#,
        r#"{"event":"command","time":T,"id":4,"name":"PLATFORM_STATUS","addr":"0x100","status":0,"status_name":"SUCCESS","interrupt":false,"reads":0,"writes":3}"#,
        r#"{"event":"command","time":T,"id":5,"name":"PEK_GEN","addr":"0x100","status":1,"status_name":"INVALID_PLATFORM_STATE","interrupt":false,"reads":1,"writes":3}"#,
        r#"{"event":"command","time":T,"id":14,"name":"NOP","addr":"0x100","status":null,"status_name":"NONE","interrupt":false,"reads":1,"writes":3}"#,
        r#"{"event":"disconnect","time":T,"reads":1,"writes":0}"#,
    ];
    assert_eq!(lines.len(), 11, "{trace}");
    for (line, expected) in lines[1..].iter().zip(one_vm.iter().chain(&one_vm)) {
        let (before, rest) = line.split_once(r#""time":"#).unwrap();
        let number = rest.find([',', '}']).unwrap();
        let time: f64 = rest[..number].parse().unwrap();
        assert!((0.0..60.0).contains(&time));
        assert_eq!(format!(r#"{before}"time":T{}"#, &rest[number..]), *expected);
    }
}

/// Copies a directory with everything in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Exports from a state directory in process, to see that it is intact.
///
/// From a copy: the lock of the original must not be taken here, since a program another test is
/// just starting would hold on to it for a moment.
fn check_state(dir: &Path) {
    let place = Place::new();
    copy(dir, &place.path("copy"));
    let state = StateDir::open(&place.path("copy"), None, &MILAN).unwrap();
    let mut psp = common::Platform::new(&MILAN);
    psp.firmware = Firmware::new(state.model(), state.chip(), state.into_flash());
    assert_eq!(psp.status(id::INIT, &[0; 20]), Status::SUCCESS);
    let exported = psp.export();
    let certs: Vec<SevCert> = exported
        .chunks(common::CERT_LEN)
        .map(|bytes| SevCert::from(<[u8; common::CERT_LEN]>::try_from(bytes).unwrap()))
        .collect();
    assert_eq!(certs[0].verify(&certs[1]), Ok(()), "PDH by PEK");
    assert_eq!(certs[1].verify(&certs[2]), Ok(()), "PEK by OCA");
    assert_eq!(certs[1].verify(&certs[3]), Ok(()), "PEK by CEK");
}

#[test]
fn being_killed_at_any_moment_leaves_the_state_intact() {
    let place = Place::new();
    for round in 0..12 {
        let mut program = place.start(&[]);
        let mut vm = program.vm();
        vm.command(id::INIT).unwrap();
        let pid = Pid::from_child(&program.child);
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_micros(3000 + 1700 * round));
            kill_process(pid, Signal::KILL).unwrap();
        });
        // New keys over and over, until it is dead.
        while vm.command(id::PEK_GEN).is_ok() {}
        killer.join().unwrap();
        program.child.wait().unwrap();
        fs::remove_file(place.path("sock")).unwrap();
        check_state(&place.path("state"));
    }
}

#[test]
fn output_is_only_what_was_asked_for() {
    let place = Place::new();
    let mut program = place.start(&[]);
    program.vm().command(id::DF_FLUSH).unwrap();
    program.signal(Signal::TERM);
    let mut said = String::new();
    program
        .child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    program
        .child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "");
}

#[test]
fn a_guest_finds_its_secrets_and_the_device() {
    let place = Place::new();
    let (secrets, trace) = (place.path("secrets"), place.path("trace"));
    let files = [secrets.to_str().unwrap(), trace.to_str().unwrap()];
    let program = place.start(&[
        "--guest",
        "--secrets",
        files[0],
        "--secrets-address",
        "0x7fff000",
        "--vlek",
        "--fault",
        "vmm-error:7:1",
        "--trace",
        files[1],
    ]);
    let page = fs::read(&secrets).unwrap();
    assert_eq!(page.len(), 0x1000);
    assert!(page[0x20..0xa0].chunks(32).all(|key| key != [0; 32]));
    let mode = fs::metadata(&secrets).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut vm = program.vm();
    let mut read = |offset| {
        let mut word = [0; 4];
        vm.client
            .region_read(VFIO_PCI_BAR0_REGION_INDEX, offset, &mut word)
            .unwrap();
        u32::from_le_bytes(word)
    };
    assert_eq!(
        (read(0x00), read(0x30), read(0x34)),
        (0x4c56_4553, 0x7fff000, 0)
    );
    // A request without a message in it: the fault first, then what the host says of it.
    for (error, firmware) in [(7, 0), (0, 0x16)] {
        for (offset, value) in [(0x10, 0x1000), (0x24, 0x8000_0011)] {
            let value: u32 = value;
            vm.client
                .region_write(VFIO_PCI_BAR0_REGION_INDEX, offset, &value.to_le_bytes())
                .unwrap();
        }
        let mut word = [0; 8];
        vm.client
            .region_read(VFIO_PCI_BAR0_REGION_INDEX, 0x28, &mut word)
            .unwrap();
        assert_eq!(u64::from_le_bytes(word), error << 32 | firmware);
    }
    let trace = fs::read_to_string(&trace).unwrap();
    let lines: Vec<_> = trace.lines().collect();
    assert_eq!(lines.len(), 3, "{trace}");
    assert!(
        lines[1].contains(r#""vmm":7,"fault":"VmmError(7)""#),
        "{trace}"
    );
    assert!(
        lines[2].contains(r#""exit_code":"0x80000011","pages":0,"firmware":22,"vmm":0"#),
        "{trace}"
    );
}

#[test]
fn bad_options_of_guests_are_explained() {
    let place = Place::new();
    let secrets = place.path("secrets");
    let guest = [
        "--guest",
        "--secrets",
        secrets.to_str().unwrap(),
        "--secrets-address",
    ];
    for (arguments, code, expected) in [
        (&["--guest"][..], 2, "--secrets <FILE>"),
        (&["--vlek"], 2, "--guest"),
        (
            &[&guest[..], &["0x7fff001"]].concat(),
            2,
            "address of a page",
        ),
        (&[&guest[..], &["4096"]].concat(), 2, "address of a page"),
        (
            &[&guest[..], &["0x1000", "--fault", "lost-irq"]].concat(),
            2,
            "unknown fault of guest requests \"lost-irq\"",
        ),
        (
            &[&guest[..], &["0x1000", "--model", "rome"]].concat(),
            1,
            "rome has no SNP",
        ),
    ] {
        let (found, message) = place.refused(arguments);
        assert_eq!(found, Some(code), "{message}");
        assert!(message.contains(expected), "{message}");
    }
    assert!(!secrets.exists());
}
