//! Any message, for tests that must hold of all. The large ones are boxed: their types would not
//! fit on a stack.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::chunk::record::ChunkRecord;
use crate::effect::{Cause, Change, KeyPatch};
use crate::error::{ErrorKind, Failure};
use crate::ids::{
    Ack, ChunkId, Durability, Epoch, EpochName, FrameIndex, LeaseId, NamespaceId, Origin, PeerKey,
    Position, Revision, Sequence, SessionId, StoreId,
};
use crate::operation::{Edit, Fence, KeyRead, Operation, Outcome, Patch, Step};
use crate::wire::{
    ChunkPlace, CopyPlace, Digest, Entry, Event, Feed, FollowStatus, Gap, Grant, Held, Hello,
    IndexBuild, InstallStart, KeyRange, LeaseStatus, LogFrame, OwnerStatus, PartialSnapshot, Reply,
    Request, ToOwner, ToPeer, Upload, Version, Welcome, Write,
};

pub(super) fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 250..300)].prop_map(Bytes::from)
}

pub(super) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, any::<u64>()]
}

pub(super) fn revision() -> impl Strategy<Value = Revision> {
    number().prop_map(Revision)
}

pub(super) fn session() -> impl Strategy<Value = SessionId> {
    (number(), number()).prop_map(|(epoch, frame)| SessionId {
        epoch,
        frame: FrameIndex(frame),
    })
}

pub(super) fn epoch() -> impl Strategy<Value = Epoch> {
    (number(), any::<[u8; 16]>()).prop_map(|(number, name)| Epoch {
        number,
        name: EpochName(name),
    })
}

pub(super) fn position() -> impl Strategy<Value = Position> {
    (any::<[u8; 16]>(), epoch(), revision()).prop_map(|(store, epoch, revision)| Position {
        store: StoreId(store),
        epoch,
        revision,
    })
}

pub(super) fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![Just(Durability::Buffered), Just(Durability::Sync)]
}

pub(super) fn failure() -> impl Strategy<Value = Failure> {
    (1..12_u8, ".{0,20}").prop_map(|(kind, text)| Failure::new(ErrorKind::from_number(kind), text))
}

pub(super) fn change() -> impl Strategy<Value = Change> {
    (bytes(), option::of(bytes())).prop_map(|(key, value)| Change { key, value })
}

pub(super) fn range() -> impl Strategy<Value = KeyRange> {
    (bytes(), option::of(bytes())).prop_map(|(start, end)| KeyRange { start, end })
}

pub(super) fn grant() -> impl Strategy<Value = Grant> {
    let fields = (
        any::<[u8; 32]>(),
        ".{0,9}",
        vec(".{0,9}", 0..3),
        option::of(number()),
        ".{0,9}",
    );
    fields.prop_map(|(peer, scope, rights, expires_ms, label)| Grant {
        peer: PeerKey(peer),
        scope,
        rights,
        expires_ms,
        label,
    })
}

pub(super) fn operation() -> BoxedStrategy<Operation> {
    prop_oneof![
        (bytes(), bytes()).prop_map(|(key, value)| Operation::Put { key, value }),
        bytes().prop_map(|key| Operation::Delete { key }),
        (bytes(), option::of(bytes()), any::<u32>()).prop_map(|(start, end, count_max)| {
            Operation::DeleteRange {
                start,
                end,
                count_max,
            }
        }),
        (bytes(), option::of(bytes()), option::of(bytes()))
            .prop_map(|(key, expected, new)| Operation::CompareAndSet { key, expected, new }),
        (bytes(), any::<i64>()).prop_map(|(key, by)| Operation::Increment { key, by }),
        vec(change(), 0..20).prop_map(|changes| Operation::Batch { changes }),
        transact(),
        (bytes(), patch()).prop_map(|(key, patch)| Operation::Patch { key, patch }),
        lease_operation(),
        Just(Operation::Settle),
        bytes().prop_map(|bytes| Operation::AddDictionary { bytes }),
    ]
    .boxed()
}

pub(super) fn key_read() -> impl Strategy<Value = KeyRead> {
    let read = (bytes(), option::of(revision()));
    read.prop_map(|(key, revision)| KeyRead { key, revision })
}

pub(super) fn fence() -> impl Strategy<Value = Fence> {
    (bytes(), revision()).prop_map(|(name, fence)| Fence { name, fence })
}

fn transact() -> BoxedStrategy<Operation> {
    let fields = (
        vec(key_read(), 0..5),
        vec(range(), 0..3),
        revision(),
        vec(fence(), 0..3),
        vec(change(), 0..5),
    );
    fields
        .prop_map(|(reads, ranges, at, fences, changes)| Operation::Transact {
            reads,
            ranges,
            at,
            fences,
            changes,
        })
        .boxed()
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        bytes().prop_map(|key| Step::Field { key }),
        any::<u32>().prop_map(|index| Step::Index { index }),
    ]
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    let numbers = (any::<u32>(), any::<u32>(), any::<i64>());
    let fields = vec((bytes(), bytes()), 0..5);
    (0..11, vec(bytes(), 0..5), bytes(), numbers, fields).prop_map(
        |(which, items, item, (start, delete_count, by), fields)| match which {
            0 => Edit::Append { items },
            1 => Edit::Add { items },
            2 => Edit::Discard { items },
            3 => Edit::SetField {
                value: items.concat().into(),
                field: item,
            },
            4 => Edit::DeleteField { field: item },
            5 => Edit::Remove { item },
            6 => Edit::AddNumber { by },
            7 => Edit::Merge { fields },
            8 => Edit::Clear,
            9 => Edit::Splice {
                start,
                delete_count,
                items,
            },
            _ => Edit::Replace { value: item },
        },
    )
}

pub(super) fn patch() -> impl Strategy<Value = Patch> {
    let fields = (
        vec(step(), 0..4),
        option::of(revision()),
        any::<bool>(),
        edit(),
    );
    fields.prop_map(|(path, revision, create, edit)| Patch {
        path,
        revision,
        create,
        edit,
    })
}

fn lease() -> impl Strategy<Value = LeaseId> {
    number().prop_map(LeaseId)
}

fn lease_operation() -> BoxedStrategy<Operation> {
    prop_oneof![
        (bytes(), bytes(), option::of(number()), option::of(lease())).prop_map(
            |(key, value, ttl_ms, lease)| Operation::PutLeased {
                key,
                value,
                ttl_ms,
                lease
            }
        ),
        (number(), any::<bool>())
            .prop_map(|(ttl_ms, presence)| Operation::GrantLease { ttl_ms, presence }),
        lease().prop_map(|lease| Operation::RevokeLease { lease }),
        (bytes(), lease()).prop_map(|(name, lease)| Operation::Lock { name, lease }),
        (bytes(), revision()).prop_map(|(name, fence)| Operation::Unlock { name, fence }),
    ]
    .boxed()
}

pub(super) fn request() -> BoxedStrategy<Request> {
    prop_oneof![
        vec(change(), 0..5).prop_map(|content| Request::CreateNamespace { content }),
        bytes().prop_map(|key| Request::Get { key }),
        Just(Request::Count),
        (number(), range(), option::of(position())).prop_map(|(subscription, range, since)| {
            Request::Subscribe {
                subscription,
                range,
                since,
            }
        }),
        number().prop_map(|subscription| Request::Unsubscribe { subscription }),
        (number(), range(), any::<bool>()).prop_map(|(subscription, range, reverse)| {
            Request::Fetch {
                subscription,
                range,
                reverse,
            }
        }),
        Just(Request::Barrier),
        revision().prop_map(|revision| Request::Flush { revision }),
        Just(Request::Status),
        grant().prop_map(Request::Grant),
        Just(Request::Grants),
        any::<[u8; 32]>().prop_map(|peer| Request::Revoke {
            peer: PeerKey(peer)
        }),
        past_request(),
        follow_request(),
        lease_request(),
        difference_request(),
        chunk_request(),
    ]
    .boxed()
}

fn difference_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (number(), range(), position(), held()).prop_map(|(subscription, range, since, held)| {
            Request::Follow {
                subscription,
                range,
                since,
                held,
            }
        }),
        (number(), any::<u32>(), vec(digest(), 0..5)).prop_map(|(subscription, round, digests)| {
            Request::Digests {
                subscription,
                round,
                digests,
            }
        }),
    ]
}

fn lease_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        lease().prop_map(|lease| Request::KeepLease { lease }),
        (bytes(), number()).prop_map(|(name, timeout_ms)| Request::AwaitLock { name, timeout_ms }),
        (session(), number()).prop_map(|(session, sequence)| Request::Outcome {
            session,
            sequence: Sequence(sequence),
        }),
    ]
}

pub(super) fn copy_place() -> impl Strategy<Value = CopyPlace> {
    (position(), number()).prop_map(|(position, next)| CopyPlace {
        position,
        next: FrameIndex(next),
    })
}

pub(super) fn partial_snapshot() -> impl Strategy<Value = PartialSnapshot> {
    (revision(), number(), any::<u32>(), number()).prop_map(
        |(revision, total_bytes, head_crc, held_bytes)| PartialSnapshot {
            revision,
            total_bytes,
            head_crc,
            held_bytes,
        },
    )
}

fn follow_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (any::<[u8; 32]>(), option::of(session())).prop_map(|(peer, session)| Request::OnBehalf {
            peer: PeerKey(peer),
            session,
        }),
        (
            number(),
            option::of(copy_place()),
            option::of(partial_snapshot())
        )
            .prop_map(|(subscription, since, partial)| Request::Replicate {
                subscription,
                since,
                partial,
            }),
        Just(Request::Following),
        any::<bool>().prop_map(|by_part| Request::TakePatches { by_part }),
        option::of(any::<u32>()).prop_map(|id| Request::Dictionary { id }),
    ]
}

pub(super) fn follow_status() -> impl Strategy<Value = FollowStatus> {
    (
        ".{0,9}",
        any::<bool>(),
        [revision(), revision()],
        option::of(number()),
    )
        .prop_map(
            |(source, is_connected, [source_revision, revision], behind_ms)| FollowStatus {
                trouble: source.clone(),
                source,
                is_connected,
                source_revision,
                revision,
                behind_ms,
            },
        )
}

pub(super) fn log_frame() -> impl Strategy<Value = LogFrame> {
    (vec(number(), 4), any::<[u32; 3]>(), any::<u8>(), bytes()).prop_map(
        |(n, small, kind, body)| LogFrame {
            kind,
            skippable: kind > 128,
            index: FrameIndex(n[0]),
            epoch: n[1],
            first: Revision(n[2]),
            count: small[0],
            time_ms: n[3],
            body_bytes: small[1],
            body_crc: small[2],
            body,
        },
    )
}

pub(super) fn install_start() -> impl Strategy<Value = InstallStart> {
    (position(), vec(number(), 4), any::<u32>()).prop_map(|(position, n, head_crc)| InstallStart {
        position,
        segment: n[0],
        next: FrameIndex(n[1]),
        total_bytes: n[2],
        head_crc,
        start: n[3],
    })
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![Just(Held::Nothing), Just(Held::Part), Just(Held::Whole)]
}

pub(super) fn digest() -> impl Strategy<Value = Digest> {
    (option::of(bytes()), number(), any::<[u8; 16]>()).prop_map(|(through, count, hash)| Digest {
        through,
        count,
        hash,
    })
}

pub(super) fn gap() -> impl Strategy<Value = Gap> {
    (revision(), revision(), any::<bool>()).prop_map(|(after, oldest, same_history)| Gap {
        after,
        oldest,
        same_history,
    })
}

fn past_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        revision().prop_map(|revision| Request::At { revision }),
        (bytes(), revision()).prop_map(|(key, revision)| Request::GetAt { key, revision }),
        revision().prop_map(|revision| Request::CountAt { revision }),
        (number(), range(), any::<bool>(), revision()).prop_map(
            |(subscription, range, reverse, revision)| Request::FetchAt {
                subscription,
                range,
                reverse,
                revision,
            }
        ),
        (bytes(), option::of(revision()), any::<u32>()).prop_map(|(key, before, count_max)| {
            Request::History {
                key,
                before,
                count_max,
            }
        }),
    ]
}

pub(super) fn version() -> impl Strategy<Value = Version> {
    let times = (revision(), option::of(number()));
    (times, option::of(bytes()), any::<bool>()).prop_map(
        |((revision, time_ms), value, is_oldest_known)| Version {
            revision,
            time_ms,
            value,
            is_oldest_known,
        },
    )
}

pub(super) fn to_owner() -> impl Strategy<Value = ToOwner> {
    prop_oneof![
        (".{0,9}", ".{0,300}", option::of(session())).prop_map(|(program, namespace, session)| {
            ToOwner::Hello(Hello {
                program,
                namespace,
                session,
            })
        }),
        Just(ToOwner::OpenSession),
        (number(), number(), option::of(durability()), operation()).prop_map(
            |(sequence, floor, durability, operation)| ToOwner::Write(Write {
                sequence: Sequence(sequence),
                floor: Sequence(floor),
                durability,
                operation,
            })
        ),
        (number(), request()).prop_map(|(id, request)| ToOwner::Request(id, request)),
        Just(ToOwner::CloseSession),
    ]
}

pub(super) fn outcome() -> BoxedStrategy<Outcome> {
    prop_oneof![
        Just(Outcome::Done),
        number().prop_map(Outcome::Deleted),
        any::<bool>().prop_map(Outcome::Swapped),
        any::<i64>().prop_map(Outcome::Number),
        lease().prop_map(Outcome::Lease),
        option::of(revision()).prop_map(Outcome::Locked),
        (bytes(), revision()).prop_map(|(key, revision)| Outcome::Conflict { key, revision }),
        revision().prop_map(|oldest| Outcome::Outdated { oldest }),
        bytes().prop_map(|name| Outcome::Fenced { name }),
        vec(chunk(), 0..5).prop_map(|ids| Outcome::NeedChunks { ids }),
    ]
    .boxed()
}

pub(super) fn ack() -> impl Strategy<Value = Ack> {
    (revision(), epoch(), durability()).prop_map(|(revision, epoch, durability)| Ack {
        revision,
        epoch,
        durability,
    })
}

pub(super) fn status() -> impl Strategy<Value = OwnerStatus> {
    (
        option::of(".{0,9}"),
        position(),
        vec(number(), 7),
        vec(any::<u32>(), 3),
    )
        .prop_map(|(address, position, n, small)| OwnerStatus {
            program: "objsync".into(),
            pid: small[0],
            address,
            directory: "/d".into(),
            position,
            durable: Revision(n[0]),
            indexed: Revision(n[1]),
            keys: n[2],
            peers: small[1],
            subscriptions: small[2],
            log_bytes: n[3],
            snapshot_bytes: n[4],
            index_bytes: n[5],
            index_build: (small[0] % 2 == 0).then_some(IndexBuild {
                revision: Revision(n[0]),
                done_count: n[1],
                total_count: n[2],
            }),
            uptime_s: n[6],
        })
}

pub(super) fn reply() -> BoxedStrategy<Reply> {
    prop_oneof![
        Just(Reply::Done),
        (any::<u32>(), any::<bool>()).prop_map(|(number, created)| Reply::Namespace {
            namespace: NamespaceId(number),
            created
        }),
        (option::of((bytes(), revision())), revision())
            .prop_map(|(entry, as_of)| Reply::Entry { entry, as_of }),
        (number(), revision()).prop_map(|(count, as_of)| Reply::Count { count, as_of }),
        position().prop_map(Reply::Position),
        status().prop_map(Reply::Status),
        vec(grant(), 0..3).prop_map(Reply::Grants),
        (vec(version(), 0..3), option::of(revision()))
            .prop_map(|(versions, before)| Reply::History { versions, before }),
        (revision(), revision())
            .prop_map(|(revision, oldest)| Reply::PastRetention { revision, oldest }),
        any::<[bool; 2]>().prop_map(|[may_write, session_known]| Reply::Acting {
            may_write,
            session_known,
        }),
        option::of(follow_status()).prop_map(Reply::Following),
        vec(chunk(), 0..5).prop_map(|ids| Reply::MissingChunks { ids }),
        lease_reply(),
    ]
    .boxed()
}

pub(super) fn lease_status() -> impl Strategy<Value = LeaseStatus> {
    (number(), number(), any::<bool>()).prop_map(|(ttl_ms, left_ms, presence)| LeaseStatus {
        ttl_ms,
        left_ms,
        presence,
    })
}

fn lease_reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        lease_status().prop_map(Reply::Lease),
        option::of(revision()).prop_map(|fence| Reply::Lock { fence }),
        option::of(either((outcome(), ack()))).prop_map(Reply::Outcome),
    ]
}

pub(super) fn either<T: std::fmt::Debug>(
    ok: impl Strategy<Value = T>,
) -> impl Strategy<Value = Result<T, Failure>> {
    (ok, option::of(failure())).prop_map(|(ok, failure)| failure.map_or(Ok(ok), Err))
}

pub(super) fn to_peer() -> impl Strategy<Value = ToPeer> {
    let welcome = (
        position(),
        option::of(any::<u32>()),
        any::<[bool; 2]>(),
        durability(),
    );
    prop_oneof![
        welcome.prop_map(
            |(position, namespace, [may_write, session_known], durability)| {
                let namespace = namespace.map(NamespaceId);
                let program = "objsync".into();
                ToPeer::Welcome(Welcome {
                    program,
                    position,
                    namespace,
                    may_write,
                    durability,
                    session_known,
                })
            }
        ),
        session().prop_map(ToPeer::Opened),
        (number(), either((outcome(), ack())))
            .prop_map(|(sequence, result)| ToPeer::Answer(Sequence(sequence), result)),
        (number(), either(reply())).prop_map(|(id, result)| ToPeer::Reply(id, result)),
        failure().prop_map(ToPeer::Goodbye),
    ]
}

pub(super) fn any_event() -> impl Strategy<Value = Event> {
    let origin = (session(), number()).prop_map(|(session, sequence)| Origin {
        session,
        sequence: Sequence(sequence),
    });
    (
        revision(),
        number(),
        option::of(origin),
        (0..3_u8).prop_map(|number| Cause::from_number(number).unwrap()),
        vec(change(), 0..5),
        vec(key_patch(), 0..3),
    )
        .prop_map(
            |(revision, time_ms, origin, cause, changes, patches)| Event {
                revision,
                time_ms,
                origin,
                cause,
                changes,
                patches,
            },
        )
}

pub(super) fn key_patch() -> impl Strategy<Value = KeyPatch> {
    (bytes(), revision(), bytes()).prop_map(|(key, base, edit)| KeyPatch { key, base, edit })
}

pub(super) fn entry() -> impl Strategy<Value = Entry> {
    (bytes(), bytes(), revision()).prop_map(|(key, value, revision)| Entry {
        key,
        value,
        revision,
    })
}

fn chunk() -> impl Strategy<Value = ChunkId> {
    any::<[u8; 32]>().prop_map(ChunkId)
}

pub(super) fn chunk_record() -> impl Strategy<Value = ChunkRecord> {
    (chunk(), any::<[u8; 2]>(), any::<u32>(), bytes()).prop_map(
        |(id, [kind, codec], plain_bytes, payload)| ChunkRecord {
            id,
            kind,
            codec,
            plain_bytes,
            payload,
        },
    )
}

pub(super) fn chunk_place() -> impl Strategy<Value = ChunkPlace> {
    (chunk(), any::<u8>(), number()).prop_map(|(id, level, offset)| ChunkPlace {
        id,
        level,
        offset,
    })
}

fn chunk_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (bytes(), vec(chunk(), 0..5)).prop_map(|(key, ids)| Request::MissingChunks { key, ids }),
        (number(), number()).prop_map(|(upload, count)| Request::EndUpload { upload, count }),
        (number(), bytes(), revision(), vec(chunk_place(), 0..5)).prop_map(
            |(subscription, key, revision, places)| Request::FetchChunks {
                subscription,
                key,
                revision,
                places,
            }
        ),
    ]
}

pub(super) fn upload() -> impl Strategy<Value = Upload> {
    prop_oneof![
        number().prop_map(|upload| Upload::Start { upload }),
        vec(chunk_record(), 0..4).prop_map(Upload::Chunks),
    ]
}

pub(super) fn feed() -> impl Strategy<Value = Feed> {
    prop_oneof![
        number().prop_map(|subscription| Feed::Start { subscription }),
        Just(Feed::Resume),
        Just(Feed::Reset),
        vec(entry(), 0..20).prop_map(Feed::Entries),
        position().prop_map(|position| Feed::Complete { position }),
        vec(any_event(), 0..8).prop_map(Feed::Events),
        position().prop_map(|position| Feed::Bookmark { position }),
        (number(), position()).prop_map(|(id, position)| Feed::Barrier { id, position }),
        failure().prop_map(Feed::Failed),
        (any::<u32>(), position(), any::<bool>()).prop_map(|(round, position, same_history)| {
            Feed::Compare {
                round,
                position,
                same_history,
            }
        }),
        (range(), vec(entry(), 0..20))
            .prop_map(|(range, entries)| Feed::Replace { range, entries }),
        gap().prop_map(Feed::Gap),
        position().prop_map(|position| Feed::Skip { position }),
        vec(log_frame(), 0..5).prop_map(Feed::Frames),
        bytes().prop_map(Feed::Body),
        install_start().prop_map(Feed::Install),
        bytes().prop_map(Feed::Piece),
        position().prop_map(|position| Feed::Reached { position }),
        vec(chunk_record(), 0..4).prop_map(Feed::Chunks),
    ]
}
