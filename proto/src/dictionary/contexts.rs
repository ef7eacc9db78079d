//! zstd's working memory, one per thread: making it anew for each small value costs more than
//! the value does.

use std::cell::RefCell;
use std::io;

use zstd::zstd_safe::{self, CCtx, CDict, DCtx, DDict};

/// Payloads above this are packed with memory of their own, which is given back: at high levels
/// zstd takes many MiB for a long one, and keeps them.
const KEPT_BYTES_MAX: usize = 256 << 10;

thread_local! {
    static PACKER: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static OPENER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// One frame, with its content size.
pub(super) fn pack(payload: &[u8], level: i32) -> io::Result<Vec<u8>> {
    with_packer(payload, |packer, frame| {
        packer.compress(frame, payload, level)
    })
}

/// One frame, with its content size and the dictionary's name.
pub(super) fn pack_with(payload: &[u8], dictionary: &CDict<'_>) -> io::Result<Vec<u8>> {
    with_packer(payload, |packer, frame| {
        packer.compress_using_cdict(frame, payload, dictionary)
    })
}

fn with_packer(
    payload: &[u8],
    pack: impl FnOnce(&mut CCtx<'static>, &mut Vec<u8>) -> Result<usize, usize>,
) -> io::Result<Vec<u8>> {
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(payload.len()));
    let packed = match payload.len() {
        0..=KEPT_BYTES_MAX => PACKER.with_borrow_mut(|packer| pack(packer, &mut frame)),
        _ => pack(&mut CCtx::create(), &mut frame),
    };
    packed.map(|_| frame).map_err(failed)
}

/// The content of a frame, at most `plain_bytes`, which the caller has checked.
pub(super) fn unpack(
    frame: &[u8],
    plain_bytes: usize,
    dictionary: Option<&DDict<'_>>,
) -> io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(plain_bytes);
    let unpacked = OPENER.with_borrow_mut(|opener| match dictionary {
        Some(dictionary) => opener.decompress_using_ddict(&mut plain, frame, dictionary),
        None => opener.decompress(&mut plain, frame),
    });
    unpacked.map(|_| plain).map_err(failed)
}

fn failed(code: usize) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
}
