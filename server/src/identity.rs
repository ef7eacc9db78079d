//! Who a process is: an Ed25519 key.
//!
//! The store's own key lies in `<directory>/key` and is made with the store. Whoever can read that
//! file proves itself with it, as the server and as a client of the same user; a client with a
//! link has a key of its own.
//!
//! Invariants
//! * The file has mode 0600 from its first byte on, and is synced, name included, before its key
//!   is used: a store never comes back with another key after a power cut.
//! * A key that others may read is refused, not used with a warning.
//! * Beside the key lies its public half in `key.pub`, under a checksum of its own. A key that does
//!   not give that public half is damaged, and refused: a store does not come back as somebody else.
//!   Nothing that depends on the secret in another way stands anywhere.
//!
//! The key file is PKCS#8 (RFC 8410), which `openssl pkey -inform DER -in key` reads.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use aws_lc_rs::rand;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use objsync_proto::ids::PeerKey;
use rustix::fs::OFlags;

use crate::error::ServerError;

/// Name of the key file in a store's directory.
pub const KEY_FILE: &str = "key";
/// Name of the file beside it that tells the public half.
pub const PUBLIC_KEY_FILE: &str = "key.pub";
/// The first line of that file.
const PUBLIC_KEY_TITLE: &str = "objsync public key";
const PUBLIC_KEY_BYTES_MAX: u64 = 1024;

/// What stands before the 32 secret bytes in PKCS#8: a version, the algorithm, two lengths.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const SECRET_BYTES: usize = 32;
const FILE_BYTES: usize = PKCS8_PREFIX.len() + SECRET_BYTES;

/// An Ed25519 key pair.
#[derive(Clone)]
pub struct Identity {
    secret: [u8; SECRET_BYTES],
    peer: PeerKey,
}

impl Identity {
    /// Draws a new key from the operating system's randomness.
    pub fn generate() -> Result<Self, ServerError> {
        let mut secret = [0; SECRET_BYTES];
        rand::fill(&mut secret).map_err(|_| ServerError::Crypto { what: "draw a key" })?;
        Self::from_secret(secret)
    }

    /// The identity of a secret, such as the one in a link.
    pub fn from_secret(secret: [u8; SECRET_BYTES]) -> Result<Self, ServerError> {
        let refused = || ServerError::Crypto {
            what: "use an Ed25519 secret",
        };
        let pair = Ed25519KeyPair::from_seed_unchecked(&secret).map_err(|_| refused())?;
        let public = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| refused())?;
        Ok(Self {
            secret,
            peer: PeerKey(public),
        })
    }

    /// The secret itself, for a link. Whoever has it is this peer.
    #[must_use]
    pub fn secret(&self) -> &[u8; SECRET_BYTES] {
        &self.secret
    }

    /// The public key: what others know this peer by.
    #[must_use]
    pub fn peer(&self) -> PeerKey {
        self.peer
    }

    /// The key in PKCS#8.
    pub(crate) fn pkcs8(&self) -> Vec<u8> {
        [PKCS8_PREFIX.as_slice(), &self.secret].concat()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Reads the key of the store in `directory`.
///
/// # Errors
/// [`ServerError::KeyExposed`] when group or others have any permission on it.
pub fn load(directory: &Path) -> Result<Identity, ServerError> {
    let path = directory.join(KEY_FILE);
    let file = open(&path).map_err(ServerError::io("open", &path))?;
    let metadata = file.metadata().map_err(ServerError::io("look at", &path))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(ServerError::KeyExposed { path, mode });
    }
    read(directory, file)
}

/// Whether the store in `directory` has a key, which then is the one that was made.
///
/// # Errors
/// [`ServerError::KeyMissing`] and the like say what is damaged.
pub fn verify(directory: &Path) -> Result<bool, ServerError> {
    let path = directory.join(KEY_FILE);
    match open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match recorded(directory)? {
            Some(_) => Err(ServerError::KeyMissing { path }),
            None => Ok(false),
        },
        Err(error) => Err(ServerError::io("open", &path)(error)),
        Ok(file) => read(directory, file).map(|_| true),
    }
}

/// Opens a file without waiting: a pipe of that name waits for who writes to it.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// The first bytes of a file; of anything else there are none.
fn content_of(file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file.metadata()?.is_file() {
        file.take(bytes_max).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn read(directory: &Path, file: File) -> Result<Identity, ServerError> {
    let path = directory.join(KEY_FILE);
    let bytes = content_of(file, FILE_BYTES as u64 + 1).map_err(ServerError::io("read", &path))?;
    let secret = bytes
        .strip_prefix(&PKCS8_PREFIX)
        .and_then(|rest| rest.try_into().ok());
    let Some(secret) = secret else {
        return Err(ServerError::KeyMalformed {
            path,
            expected_bytes: FILE_BYTES,
        });
    };
    let identity = Identity::from_secret(secret)?;
    match recorded(directory)? {
        Some(public) if public != identity.peer => Err(ServerError::KeyChanged { path }),
        _ => Ok(identity),
    }
}

/// The public key that `key.pub` tells; none if there is no such file.
fn recorded(directory: &Path) -> Result<Option<PeerKey>, ServerError> {
    let path = directory.join(PUBLIC_KEY_FILE);
    let file = match open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(ServerError::io("open", &path))?,
    };
    let content = content_of(file, PUBLIC_KEY_BYTES_MAX);
    let content = content.map_err(ServerError::io("read", &path))?;
    match parse_public(&content) {
        Some(public) => Ok(Some(public)),
        None => Err(ServerError::PublicKeyDamaged { path }),
    }
}

/// A title, the key in hex, and the CRC-32C of both, each on a line.
fn render_public(public: PeerKey) -> String {
    let body = format!("{PUBLIC_KEY_TITLE}\n{public}\n");
    let crc = crc32c::crc32c(body.as_bytes());
    format!("{body}crc {crc:08x}\n")
}

/// What [`render_public`] wrote, and nothing else.
fn parse_public(content: &[u8]) -> Option<PeerKey> {
    let line = content.split(|byte| *byte == b'\n').nth(1)?;
    let public: PeerKey = std::str::from_utf8(line).ok()?.parse().ok()?;
    (render_public(public).as_bytes() == content).then_some(public)
}

/// Writes down the public half of the store's key, unless it is written already.
fn record(directory: &Path, identity: &Identity) -> Result<(), ServerError> {
    match directory.join(PUBLIC_KEY_FILE).exists() {
        true => Ok(()),
        false => put(
            directory,
            PUBLIC_KEY_FILE,
            render_public(identity.peer).as_bytes(),
        ),
    }
}

/// Reads the key of the store in `directory`, or makes it. Only the owner of the store may call
/// this: two callers at once could each make one.
///
/// # Errors
/// [`ServerError::KeyMissing`] when there was a key: who knows the store by it would not know it
/// again.
pub fn load_or_create(directory: &Path) -> Result<Identity, ServerError> {
    let identity = match load(directory) {
        Err(ServerError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            create(directory)?
        }
        loaded => loaded?,
    };
    record(directory, &identity)?;
    Ok(identity)
}

fn create(directory: &Path) -> Result<Identity, ServerError> {
    if recorded(directory)?.is_some() {
        let path = directory.join(KEY_FILE);
        return Err(ServerError::KeyMissing { path });
    }
    let identity = Identity::generate()?;
    put(directory, KEY_FILE, &identity.pkcs8())?;
    Ok(identity)
}

/// Puts a file of a store there, for its user alone: a power cut leaves all of it or nothing.
fn put(directory: &Path, name: &str, content: &[u8]) -> Result<(), ServerError> {
    let path = directory.join(name);
    let draft = path.with_added_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(ServerError::io("remove", &draft)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .map_err(ServerError::io("create", &draft))?;
    file.write_all(content)
        .map_err(ServerError::io("write", &draft))?;
    file.sync_all().map_err(ServerError::io("sync", &draft))?;
    fs::rename(&draft, &path).map_err(ServerError::io("rename", &draft))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(ServerError::io("sync", directory))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt;

    use objsync_proto::error::ErrorKind;

    use super::*;

    #[test]
    fn key_is_made_once_and_only_its_user_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let made = load_or_create(directory.path()).unwrap();
        let mode = fs::metadata(directory.path().join(KEY_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(
            load_or_create(directory.path()).unwrap().peer(),
            made.peer()
        );
        assert_eq!(load(directory.path()).unwrap().secret(), made.secret());
        assert!(!directory.path().join("key.new").exists());
    }

    #[test]
    fn key_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        load_or_create(directory.path()).unwrap();
        let path = directory.path().join(KEY_FILE);
        for mode in [0o640, 0o604, 0o660, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load_or_create(directory.path()).unwrap_err();
            assert!(matches!(error, ServerError::KeyExposed { mode: found, .. } if found == mode));
        }
    }

    #[test]
    fn file_that_is_no_key_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let whole = Identity::generate().unwrap().pkcs8();
        let path = directory.path().join(KEY_FILE);
        for bytes in [
            &whole[..47],
            &[whole.as_slice(), b"x"].concat(),
            b"",
            &whole[1..],
        ] {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = load_or_create(directory.path()).unwrap_err();
            assert!(matches!(error, ServerError::KeyMalformed { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    /// Opened as usual, a pipe would wait for ever for somebody to write to it.
    #[test]
    fn pipe_or_folder_in_the_place_of_a_key_is_damage_and_soon_told() {
        let good = tempfile::tempdir().unwrap();
        load_or_create(good.path()).unwrap();
        for name in [KEY_FILE, PUBLIC_KEY_FILE] {
            for is_pipe in [true, false] {
                let directory = tempfile::tempdir().unwrap();
                for file in [KEY_FILE, PUBLIC_KEY_FILE] {
                    fs::copy(good.path().join(file), directory.path().join(file)).unwrap();
                }
                let path = directory.path().join(name);
                fs::remove_file(&path).unwrap();
                match is_pipe {
                    true => {
                        let kind = rustix::fs::FileType::Fifo;
                        let mode = rustix::fs::Mode::RUSR;
                        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
                    }
                    false => fs::DirBuilder::new().mode(0o700).create(&path).unwrap(),
                }
                for error in [
                    verify(directory.path()).unwrap_err(),
                    load(directory.path()).unwrap_err(),
                ] {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                    assert!(error.to_string().contains(name), "{error}");
                }
            }
        }
    }

    #[test]
    fn any_flipped_byte_of_the_key_or_its_public_half_is_found() {
        let directory = tempfile::tempdir().unwrap();
        load_or_create(directory.path()).unwrap();
        for name in [KEY_FILE, PUBLIC_KEY_FILE] {
            let path = directory.path().join(name);
            let good = fs::read(&path).unwrap();
            for place in 0..good.len() {
                let mut bad = good.clone();
                bad[place] ^= 1 << (place % 8);
                fs::write(&path, &bad).unwrap();
                let error = load_or_create(directory.path()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}, byte {place}");
                assert!(error.to_string().contains(name), "{error}");
                assert_eq!(fs::read(&path).unwrap(), bad, "it is left as it is");
            }
            fs::write(&path, &good).unwrap();
        }
        assert!(load(directory.path()).is_ok());
    }

    #[test]
    fn key_that_is_gone_is_not_replaced_by_another() {
        let directory = tempfile::tempdir().unwrap();
        load_or_create(directory.path()).unwrap();
        fs::remove_file(directory.path().join(KEY_FILE)).unwrap();
        let error = load_or_create(directory.path()).unwrap_err();
        assert!(matches!(error, ServerError::KeyMissing { .. }), "{error}");
        fs::remove_file(directory.path().join(PUBLIC_KEY_FILE)).unwrap();
        assert!(load_or_create(directory.path()).is_ok());
    }

    #[test]
    fn key_of_an_older_program_gets_its_public_half_written_down() {
        let directory = tempfile::tempdir().unwrap();
        let made = load_or_create(directory.path()).unwrap();
        let path = directory.path().join(PUBLIC_KEY_FILE);
        let first = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(
            load_or_create(directory.path()).unwrap().peer(),
            made.peer()
        );
        assert_eq!(fs::read(&path).unwrap(), first);
    }

    #[test]
    fn known_secret_gives_its_known_public_key() {
        // RFC 8032, section 7.1, test 1.
        let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let bytes: Vec<u8> = (0..SECRET_BYTES)
            .map(|place| u8::from_str_radix(&secret[2 * place..][..2], 16).unwrap())
            .collect();
        let identity = Identity::from_secret(bytes.try_into().unwrap()).unwrap();
        assert_eq!(identity.peer().to_string(), public);
        assert!(
            !format!("{identity:?}").contains("9d61"),
            "the secret stays out of logs"
        );
    }
}
