// SPDX-License-Identifier: GPL-2.0

//! `/dev/sev`: the commands of the UAPI.
//!
//! Each command copies in, takes the command lock for the exchange alone, and copies out after it.
//! What a caller sees (order of checks, errno, `error` field, what is copied back when) is the C
//! driver's, except where `Documentation/decisions.rst` says otherwise.

use kernel::{
    page::PAGE_SIZE,
    pr_warn_once,
    prelude::*, //
};
use psp::{
    cmd::{
        platform::{
            GetId,
            PdhCertExport,
            PdhGen,
            PekCertImport,
            PekCsr,
            PekGen,
            PlatformStatus, //
        },
        snp::{
            SnpCommit,
            SnpPlatformStatus,
            SNP_STATUS_LEN, //
        },
        Command,
        Completed, //
    },
    driver::NotReady,
    error::CmdError,
    host::{
        Memory,
        Patience, //
    },
    uapi::{
        Blob,
        IoctlCmd,
        IssueCmd,
        Output,
        TwoBlobs,
        ENOTSUPP,
        GET_ID_LEN,
        NO_FW_CALL,
        SEV_ISSUE_CMD,
        SEV_MAX, //
    },
};
use zerocopy::IntoBytes;

use crate::{
    fw_buf::FwBuf,
    psp_dev::{
        to_error,
        Core,
        Psp,
        Ran, //
    },
    user,
};

/// Why an ioctl failed, and what its `error` field gets; `None` leaves the field alone.
struct Failure {
    errno: Error,
    fw_error: Option<u32>,
}

impl From<Error> for Failure {
    fn from(errno: Error) -> Self {
        Failure {
            errno,
            fw_error: None,
        }
    }
}

impl From<CmdError> for Failure {
    fn from(error: CmdError) -> Self {
        Failure {
            errno: to_error(error),
            fw_error: error.fw_error(),
        }
    }
}

impl From<NotReady> for Failure {
    fn from(reason: NotReady) -> Self {
        match reason {
            NotReady::ReadOnly => EPERM.into(),
            // The firmware was asked and answered.
            NotReady::GuestsActive => Failure {
                errno: EBUSY,
                fw_error: Some(0),
            },
            NotReady::Failed { cause, fw_error } => Failure {
                errno: to_error(cause),
                fw_error,
            },
        }
    }
}

/// Success means that the firmware did what was asked: the `error` field becomes zero.
type Outcome = Result<(), Failure>;

/// A copy to user space after a command that completed.
fn after_call(copied: Result) -> Outcome {
    copied.map_err(|errno| Failure {
        errno,
        fw_error: Some(0),
    })
}

/// Serves one ioctl.
///
/// # Errors
///
/// The errno for user space.
pub(crate) fn dispatch(psp: &Psp, request: u32, arg: usize, writable: bool) -> Result<isize> {
    if request != SEV_ISSUE_CMD {
        return Err(EINVAL);
    }
    let mut issue = user::read::<IssueCmd, 16>(arg)?;
    // One past the last command is let through to here by the C driver too; both say EINVAL.
    if issue.cmd.get() > SEV_MAX {
        return Err(EINVAL);
    }
    let cmd = IoctlCmd::try_from(issue.cmd.get()).map_err(|_| EINVAL)?;

    let outcome = serve(psp, cmd, issue.data.get(), writable);
    let fw_error = match &outcome {
        Ok(()) => Some(0),
        Err(failure) => failure.fw_error,
    };
    if let Some(fw_error) = fw_error {
        issue.error = fw_error.into();
    }
    user::write::<_, 16>(arg, &issue)?;
    outcome.map(|()| 0).map_err(|failure| failure.errno)
}

fn serve(psp: &Psp, cmd: IoctlCmd, data: u64, writable: bool) -> Outcome {
    // The SNP commands look at their argument before they look at the file.
    let snp_argument = matches!(
        cmd,
        IoctlCmd::SnpPlatformStatus | IoctlCmd::SnpSetConfig | IoctlCmd::SnpVlekLoad
    );
    if snp_argument && data == 0 {
        return Err(EINVAL.into());
    }
    if cmd.needs_write() && !writable {
        return Err(EPERM.into());
    }
    // CAST: user addresses are as wide as the kernel's.
    let data = data as usize;
    match cmd {
        IoctlCmd::FactoryReset => factory_reset(psp),
        IoctlCmd::PlatformStatus => platform_status(psp, data),
        IoctlCmd::PekGen => bare(psp, PekGen),
        IoctlCmd::PekCsr => pek_csr(psp, data),
        IoctlCmd::PdhGen => bare(psp, PdhGen),
        IoctlCmd::PdhCertExport => pdh_cert_export(psp, data, writable),
        IoctlCmd::PekCertImport => pek_cert_import(psp, data),
        IoctlCmd::GetId => get_id(psp, data),
        IoctlCmd::GetId2 => get_id2(psp, data),
        IoctlCmd::SnpPlatformStatus => snp_platform_status(psp, data),
        IoctlCmd::SnpCommit => Ok(psp.lock_killable()?.call(SnpCommit::new())?),
        // SNP is never on.
        IoctlCmd::SnpSetConfig | IoctlCmd::SnpVlekLoad => Err(ENODEV.into()),
    }
}

/// Runs `body` on a platform in which `C` is taken, and keeps the persistent data in step.
fn prepared<C: Command, R>(
    psp: &Psp,
    may_init: bool,
    body: impl FnOnce(&mut Core) -> R,
) -> Result<Ran<R>, Failure> {
    let ran = psp
        .with_init(Patience::Killable, |core| {
            core.prepared::<C, _>(may_init, body)
        })
        .map_err(|errno| Failure {
            errno,
            fw_error: Some(NO_FW_CALL),
        })?;
    Ok(Ran {
        value: ran.value?,
        saved: ran.saved,
    })
}

/// A command without data that needs an initialised platform, and changes its keys.
fn bare<C: Command<Reply = ()>>(psp: &Psp, cmd: C) -> Outcome {
    let ran = prepared::<C, _>(psp, true, |core| core.call(cmd))?;
    ran.value?;
    after_call(ran.saved)
}

fn factory_reset(psp: &Psp) -> Outcome {
    let ran = psp.with_init(Patience::Killable, Core::factory_reset)?;
    ran.value?;
    after_call(ran.saved)
}

fn platform_status(psp: &Psp, data: usize) -> Outcome {
    // A separate statement, so that the lock is not held while user memory is touched.
    let completed = psp
        .lock_killable()?
        .send(PlatformStatus::default(), &mut [])?;
    completed.reply().map_err(CmdError::from)?;
    after_call(user::write::<_, 12>(data, &completed.received))
}

/// The firmware's memory for an output buffer of the caller's.
fn allocate(output: Output) -> Result<Option<FwBuf>> {
    match output {
        Output::QueryLength => Ok(None),
        // CAST: usize has at least 32 bits here.
        Output::Bytes(len) => Ok(Some(FwBuf::new(len as usize)?)),
    }
}

/// Address and length as a command wants them; zeroes ask for the length.
fn lend(buf: Option<&FwBuf>) -> (u64, u32) {
    match buf {
        // CAST: lengths came from 32 bits.
        Some(buf) => (buf.psp_addr(), buf.len() as u32),
        None => (0, 0),
    }
}

/// Copies the first `len` bytes of a buffer the firmware filled to user space.
fn copy_blob(buf: Option<&FwBuf>, len: u32, address: u64) -> Result {
    match buf {
        // CAST: user addresses are as wide as the kernel's, lengths came from 32 bits.
        Some(buf) => user::write_bytes(address as usize, &buf.to_vec(len as usize)?),
        None => Ok(()),
    }
}

/// The failure of a command that completed, if it is one.
fn completed<C: Command>(done: &Completed<C>) -> Result<C::Reply, Failure> {
    done.reply().map_err(|error| CmdError::from(error).into())
}

/// Copies back the struct with the firmware's lengths, which is done whatever the firmware said.
fn copy_back<C, T: IntoBytes + zerocopy::Immutable, const N: usize>(
    data: usize,
    value: &T,
    done: &Completed<C>,
) -> Outcome {
    user::write::<T, N>(data, value).map_err(|errno| Failure {
        errno,
        fw_error: Some(done.status.code().into()),
    })
}

fn pek_csr(psp: &Psp, data: usize) -> Outcome {
    let mut input = user::read::<Blob, 12>(data)?;
    let output = input.capped_output().map_err(|_| EFAULT)?;
    let mut buf = [allocate(output)?];
    let (addr, len) = lend(buf[0].as_ref());

    let done = prepared::<PekCsr, _>(psp, true, |core| {
        core.send(PekCsr::new(addr, len), &mut buf)
    })?
    .value?;
    input.length = done.received.len;
    copy_back::<_, _, 12>(data, &input, &done)?;
    let len = completed(&done)?;
    after_call(copy_blob(buf[0].as_ref(), len, input.address.get()))
}

fn pdh_cert_export(psp: &Psp, data: usize, writable: bool) -> Outcome {
    let mut input = user::read::<TwoBlobs, 24>(data)?;
    let mut bufs = match input.outputs().map_err(|_| EFAULT)? {
        Some((pdh, chain)) => [
            allocate(Output::Bytes(pdh))?,
            allocate(Output::Bytes(chain))?,
        ],
        None => [None, None],
    };
    let cmd = PdhCertExport::new(lend(bufs[0].as_ref()), lend(bufs[1].as_ref()));

    let done =
        prepared::<PdhCertExport, _>(psp, writable, |core| core.send(cmd, &mut bufs))?.value?;
    input.first.length = done.received.pdh_len;
    input.second.length = done.received.chain_len;
    copy_back::<_, _, 24>(data, &input, &done)?;
    let lens = completed(&done)?;
    let [pdh, chain] = &bufs;
    after_call(copy_blob(pdh.as_ref(), lens.pdh, input.first.address.get()))?;
    after_call(copy_blob(
        chain.as_ref(),
        lens.chain,
        input.second.address.get(),
    ))
}

fn pek_cert_import(psp: &Psp, data: usize) -> Outcome {
    let input = user::read::<TwoBlobs, 24>(data)?;
    let read = |blob: &Blob| -> Result<Option<FwBuf>> {
        // CAST: usize has at least 32 bits here, user addresses are as wide as the kernel's.
        let len = blob.input().map_err(|_| EINVAL)? as usize;
        let bytes = user::read_bytes(blob.address.get() as usize, len)?;
        Ok(Some(FwBuf::from_slice(&bytes)?))
    };
    let mut bufs = [read(&input.first)?, read(&input.second)?];
    let cmd = PekCertImport::new(lend(bufs[0].as_ref()), lend(bufs[1].as_ref()));

    let ran = prepared::<PekCertImport, _>(psp, true, |core| core.send(cmd, &mut bufs))?;
    completed(&ran.value?)?;
    after_call(ran.saved)
}

/// GET_ID came with API 0.16.
fn check_get_id(psp: &Psp) -> Outcome {
    if psp.lock_killable()?.version()?.api_at_least(0, 16) {
        Ok(())
    } else {
        Err(Error::from_errno(-ENOTSUPP).into())
    }
}

fn get_id(psp: &Psp, data: usize) -> Outcome {
    pr_warn_once!("SEV_GET_ID command is deprecated, use SEV_GET_ID2\n");
    check_get_id(psp)?;
    let mut buf = [allocate(Output::Bytes(GET_ID_LEN))?];
    let (addr, len) = lend(buf[0].as_ref());

    let done = psp.lock_killable()?.send(GetId::new(addr, len), &mut buf)?;
    let len = completed(&done)?;
    // CAST: the argument is the user buffer itself.
    after_call(copy_blob(buf[0].as_ref(), len, data as u64))
}

fn get_id2(psp: &Psp, data: usize) -> Outcome {
    check_get_id(psp)?;
    let mut input = user::read::<Blob, 12>(data)?;
    // No limit but memory: the id may grow, and the C driver sets none.
    let mut buf = [allocate(input.output())?];
    let (addr, len) = lend(buf[0].as_ref());

    let done = psp.lock_killable()?.send(GetId::new(addr, len), &mut buf)?;
    input.length = done.received.len;
    copy_back::<_, _, 12>(data, &input, &done)?;
    let len = completed(&done)?;
    after_call(copy_blob(buf[0].as_ref(), len, input.address.get()))
}

fn snp_platform_status(psp: &Psp, data: usize) -> Outcome {
    let mut buf = [Some(FwBuf::new(PAGE_SIZE)?)];
    let (addr, _) = lend(buf[0].as_ref());
    let done = psp
        .lock_killable()?
        .send(SnpPlatformStatus::new(addr), &mut buf)?;
    completed(&done)?;
    // CAST: 32; the argument is the user buffer itself.
    after_call(copy_blob(
        buf[0].as_ref(),
        SNP_STATUS_LEN as u32,
        data as u64,
    ))
}
