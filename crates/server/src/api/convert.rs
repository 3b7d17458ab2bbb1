//! Between the wire and the store: pure functions, so that each rule can be tested by itself.
//!
//! ```text
//! request  --plan-->  Plan::Read(Read, Consistency)   asked of the handle
//!                     Plan::Write(Command)
//! Applied  --answer-->  response                      told to the client
//! ```
//!
//! What is refused here are requests that have no meaning (a sort order that does not exist, an
//! operation without content). Whether a request that has a meaning is admitted is said by the
//! store's limits. Keys and values are never copied: they share the buffer they came in.

use super::errors::ApiError;
use crate::handle::Consistency;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request as WireOp;
use crate::proto::etcdserverpb::response_op::Response as WireAnswer;
use crate::proto::{etcdserverpb as pb, mvccpb};
use bytes::Bytes;
use quorate_replica::store::{
    Command, Compare, DeleteRange, Found, KeyValue, Keys, Op, Operand, Outcome, Put, Range,
    Relation, Revision, SortOrder, SortTarget, Txn,
};

/// What a transaction asks of the replica.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// No branch writes.
    Read(Txn, Consistency),
    /// Some branch may write.
    Write(Command),
}

/// A range, and how fresh its answer must be.
///
/// Errors: [`ApiError::InvalidSortOption`].
pub(crate) fn range(request: pb::RangeRequest) -> Result<(Range, Consistency), ApiError> {
    let consistency =
        if request.serializable { Consistency::Serializable } else { Consistency::Linearizable };
    let range = Range {
        keys: Keys { key: request.key, range_end: request.range_end },
        limit: not_negative(request.limit),
        revision: revision(request.revision),
        sort_order: SortOrder::try_from(request.sort_order)?,
        sort_target: SortTarget::try_from(request.sort_target)?,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: Revision(not_negative(request.min_mod_revision)),
        max_mod_revision: upper_bound(request.max_mod_revision),
        min_create_revision: Revision(not_negative(request.min_create_revision)),
        max_create_revision: upper_bound(request.max_create_revision),
    };
    Ok((range, consistency))
}

/// A put.
pub(crate) fn put(request: pb::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A deletion.
pub(crate) fn delete_range(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange {
        keys: Keys { key: request.key, range_end: request.range_end },
        prev_kv: request.prev_kv,
    }
}

/// A compaction.
///
/// Errors: [`ApiError::Compacted`] for a negative revision, which no store has still readable.
pub(crate) fn compact(request: pb::CompactionRequest) -> Result<Command, ApiError> {
    let revision = u64::try_from(request.revision).map_err(|_| ApiError::Compacted)?;
    Ok(Command::Compact { revision: Revision(revision) })
}

/// A transaction, and the way it is to be carried out: one that writes in no branch is a read, a
/// serializable one if every range in it is.
///
/// Errors: [`ApiError::KeyNotFound`] for an empty operation (etcd's word for it),
/// [`ApiError::InvalidSortOption`], [`ApiError::InvalidCompare`].
pub(crate) fn plan_txn(request: pb::TxnRequest) -> Result<Plan, ApiError> {
    let mut needs = Needs::SerializableRead;
    let txn = txn(request, &mut needs)?;
    Ok(match needs {
        Needs::SerializableRead => Plan::Read(txn, Consistency::Serializable),
        Needs::LinearizableRead => Plan::Read(txn, Consistency::Linearizable),
        Needs::Write => Plan::Write(Command::Txn(txn)),
    })
}

/// The answer to a range.
///
/// Panics: if the outcome is not that of a range.
pub(crate) fn range_response(header: pb::ResponseHeader, outcome: Outcome) -> pb::RangeResponse {
    let Outcome::Range(found) = outcome else { panic!("a range was answered with {outcome:?}") };
    found_response(Some(header), &found)
}

/// The answer to a range, or a slice of it, which may have no header.
pub(crate) fn found_response(
    header: Option<pb::ResponseHeader>,
    found: &Found,
) -> pb::RangeResponse {
    pb::RangeResponse {
        header,
        kvs: found.kvs.iter().map(|kv| pair(kv, found.keys_only)).collect(),
        more: found.more,
        count: signed(found.count),
    }
}

/// One pair as a range tells it.
pub(crate) fn pair(kv: &KeyValue, keys_only: bool) -> mvccpb::KeyValue {
    if keys_only { key_only(kv) } else { key_value(kv) }
}

/// The answer to a put.
///
/// Panics: if the outcome is not that of a put.
pub(crate) fn put_response(header: pb::ResponseHeader, outcome: Outcome) -> pb::PutResponse {
    let Outcome::Put { prev } = outcome else { panic!("a put was answered with {outcome:?}") };
    pb::PutResponse { header: Some(header), prev_kv: prev.as_deref().map(key_value) }
}

/// The answer to a deletion.
///
/// Panics: if the outcome is not that of a deletion.
pub(crate) fn delete_response(
    header: pb::ResponseHeader,
    outcome: Outcome,
) -> pb::DeleteRangeResponse {
    let Outcome::DeleteRange { deleted, prev } = outcome else {
        panic!("a deletion was answered with {outcome:?}")
    };
    let prev_kvs = prev.iter().map(|pair| key_value(pair)).collect();
    pb::DeleteRangeResponse { header: Some(header), deleted: signed(deleted), prev_kvs }
}

/// The answer to a transaction. As in etcd the header of an inner answer holds the revision at
/// which that operation saw the store and nothing else, and that of a nested transaction nothing.
///
/// Panics: if the outcome is not that of a transaction.
pub(crate) fn txn_response(header: pb::ResponseHeader, outcome: Outcome) -> pb::TxnResponse {
    let Outcome::Txn { succeeded, outcomes } = outcome else {
        panic!("a transaction was answered with {outcome:?}")
    };
    // The header tells the revision after the transaction; if it wrote, it began one before.
    let after = header.revision;
    let mut revision = if wrote(&outcomes) { after - 1 } else { after };
    let responses = op_responses(outcomes, after, &mut revision);
    pb::TxnResponse { header: Some(header), succeeded, responses }
}

/// The revision to read: zero or less is the latest.
pub(crate) fn revision(number: i64) -> Revision {
    Revision(not_negative(number))
}

/// The wire counts in signed numbers.
///
/// Panics: beyond 2^63, which no counter of a store reaches.
pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).expect("no counter reaches 2^63")
}

/// What a transaction needs, the strongest of what its operations need.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Needs {
    SerializableRead,
    LinearizableRead,
    Write,
}

/// The depth of nesting is bounded by the decoder of the wire format, which refuses messages
/// nested deeper than 100.
fn txn(request: pb::TxnRequest, needs: &mut Needs) -> Result<Txn, ApiError> {
    Ok(Txn {
        compare: request.compare.into_iter().map(compare).collect::<Result<_, _>>()?,
        success: ops(request.success, needs)?,
        failure: ops(request.failure, needs)?,
    })
}

fn ops(requests: Vec<pb::RequestOp>, needs: &mut Needs) -> Result<Vec<Op>, ApiError> {
    requests.into_iter().map(|request| op(request, needs)).collect()
}

fn op(request: pb::RequestOp, needs: &mut Needs) -> Result<Op, ApiError> {
    Ok(match request.request.ok_or(ApiError::KeyNotFound)? {
        WireOp::RequestRange(request) => {
            let (range, consistency) = range(request)?;
            if consistency == Consistency::Linearizable {
                *needs = (*needs).max(Needs::LinearizableRead);
            }
            Op::Range(range)
        }
        WireOp::RequestPut(request) => {
            *needs = Needs::Write;
            Op::Put(put(request))
        }
        WireOp::RequestDeleteRange(request) => {
            *needs = Needs::Write;
            Op::DeleteRange(delete_range(request))
        }
        WireOp::RequestTxn(request) => Op::Txn(txn(request, needs)?),
    })
}

fn compare(request: pb::Compare) -> Result<Compare, ApiError> {
    let relation = CompareResult::try_from(request.result);
    let target = CompareTarget::try_from(request.target);
    let relation = match relation.map_err(|_| ApiError::InvalidCompare)? {
        CompareResult::Equal => Relation::Equal,
        CompareResult::Greater => Relation::Greater,
        CompareResult::Less => Relation::Less,
        CompareResult::NotEqual => Relation::NotEqual,
    };
    let given = request.target_union;
    // An operand that is missing, or not of the kind which the target names, counts as zero:
    // clients leave out operands that are zero.
    let operand = match target.map_err(|_| ApiError::InvalidCompare)? {
        CompareTarget::Version => Operand::Version(match given {
            Some(TargetUnion::Version(version)) => version,
            _ => 0,
        }),
        CompareTarget::Create => Operand::Create(match given {
            Some(TargetUnion::CreateRevision(revision)) => revision,
            _ => 0,
        }),
        CompareTarget::Mod => Operand::Mod(match given {
            Some(TargetUnion::ModRevision(revision)) => revision,
            _ => 0,
        }),
        CompareTarget::Value => Operand::Value(match given {
            Some(TargetUnion::Value(value)) => value,
            _ => Bytes::new(),
        }),
        CompareTarget::Lease => Operand::Lease(match given {
            Some(TargetUnion::Lease(lease)) => lease,
            _ => 0,
        }),
    };
    let keys = Keys { key: request.key, range_end: request.range_end };
    Ok(Compare { keys, relation, operand })
}

/// One pair as clients see it, sharing the bytes of key and value.
fn key_value(pair: &KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue { value: pair.value.clone(), ..key_only(pair) }
}

/// One pair without its value.
fn key_only(pair: &KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: pair.key.clone(),
        create_revision: signed(pair.create_revision.0),
        mod_revision: signed(pair.mod_revision.0),
        version: signed(pair.version),
        value: Bytes::new(),
        lease: pair.lease,
    }
}

/// True if one of the operations changed the store.
fn wrote(outcomes: &[Outcome]) -> bool {
    outcomes.iter().any(|outcome| match outcome {
        Outcome::Put { .. } => true,
        Outcome::DeleteRange { deleted, .. } => *deleted > 0,
        Outcome::Txn { outcomes, .. } => wrote(outcomes),
        _ => false, // A range; nothing else stands in a transaction.
    })
}

/// `revision` is where the operations are; the first one that writes moves it to `after`.
fn op_responses(outcomes: Vec<Outcome>, after: i64, revision: &mut i64) -> Vec<pb::ResponseOp> {
    let answer = |outcome| {
        let response = op_response(outcome, after, revision);
        pb::ResponseOp { response: Some(response) }
    };
    outcomes.into_iter().map(answer).collect()
}

fn op_response(outcome: Outcome, after: i64, revision: &mut i64) -> WireAnswer {
    if let Outcome::Txn { succeeded, outcomes } = outcome {
        let header = Some(pb::ResponseHeader::default());
        let responses = op_responses(outcomes, after, revision);
        return WireAnswer::ResponseTxn(pb::TxnResponse { header, succeeded, responses });
    }
    if wrote(std::slice::from_ref(&outcome)) {
        *revision = after;
    }
    let header = pb::ResponseHeader { revision: *revision, ..pb::ResponseHeader::default() };
    match outcome {
        Outcome::Range(_) => WireAnswer::ResponseRange(range_response(header, outcome)),
        Outcome::Put { .. } => WireAnswer::ResponsePut(put_response(header, outcome)),
        Outcome::DeleteRange { .. } => {
            WireAnswer::ResponseDeleteRange(delete_response(header, outcome))
        }
        _ => unreachable!("{outcome:?} is no operation with an answer of its own"),
    }
}

/// Limits and revisions of zero or less mean "none".
fn not_negative(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// An upper bound of revisions: zero is no bound, but a negative one leaves every key out, as 1
/// does, since the first key that can be written has revision 2.
fn upper_bound(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;
    use std::sync::Arc;

    /// The other direction, written only for these tests: what a client would send.
    mod client {
        use super::*;

        pub(super) fn range(range: &Range, consistency: Consistency) -> pb::RangeRequest {
            pb::RangeRequest {
                key: range.keys.key.clone(),
                range_end: range.keys.range_end.clone(),
                limit: signed(range.limit),
                revision: signed(range.revision.0),
                sort_order: range.sort_order as i32,
                sort_target: range.sort_target as i32,
                serializable: consistency == Consistency::Serializable,
                keys_only: range.keys_only,
                count_only: range.count_only,
                min_mod_revision: signed(range.min_mod_revision.0),
                max_mod_revision: signed(range.max_mod_revision.0),
                min_create_revision: signed(range.min_create_revision.0),
                max_create_revision: signed(range.max_create_revision.0),
            }
        }

        pub(super) fn put(put: &Put) -> pb::PutRequest {
            pb::PutRequest {
                key: put.key.clone(),
                value: put.value.clone(),
                lease: put.lease,
                prev_kv: put.prev_kv,
                ignore_value: put.ignore_value,
                ignore_lease: put.ignore_lease,
            }
        }

        pub(super) fn delete_range(delete: &DeleteRange) -> pb::DeleteRangeRequest {
            pb::DeleteRangeRequest {
                key: delete.keys.key.clone(),
                range_end: delete.keys.range_end.clone(),
                prev_kv: delete.prev_kv,
            }
        }

        fn compare(compare: &Compare) -> pb::Compare {
            let (target, given) = match &compare.operand {
                Operand::Version(version) => (0, TargetUnion::Version(*version)),
                Operand::Create(revision) => (1, TargetUnion::CreateRevision(*revision)),
                Operand::Mod(revision) => (2, TargetUnion::ModRevision(*revision)),
                Operand::Value(value) => (3, TargetUnion::Value(value.clone())),
                Operand::Lease(lease) => (4, TargetUnion::Lease(*lease)),
            };
            pb::Compare {
                result: compare.relation as i32,
                target,
                key: compare.keys.key.clone(),
                range_end: compare.keys.range_end.clone(),
                target_union: Some(given),
            }
        }

        fn op(op: &Op, consistency: Consistency) -> pb::RequestOp {
            let request = match op {
                Op::Range(read) => WireOp::RequestRange(range(read, consistency)),
                Op::Put(write) => WireOp::RequestPut(put(write)),
                Op::DeleteRange(delete) => WireOp::RequestDeleteRange(delete_range(delete)),
                Op::Txn(nested) => WireOp::RequestTxn(txn(nested, consistency)),
            };
            pb::RequestOp { request: Some(request) }
        }

        pub(super) fn txn(txn: &Txn, consistency: Consistency) -> pb::TxnRequest {
            pb::TxnRequest {
                compare: txn.compare.iter().map(compare).collect(),
                success: txn.success.iter().map(|each| op(each, consistency)).collect(),
                failure: txn.failure.iter().map(|each| op(each, consistency)).collect(),
            }
        }
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..5).prop_map(Bytes::from)
    }

    fn keys() -> impl Strategy<Value = Keys> {
        (bytes(), bytes()).prop_map(|(key, range_end)| Keys { key, range_end })
    }

    fn some_revision() -> impl Strategy<Value = Revision> {
        prop_oneof![Just(0), 1..9_u64, Just(i64::MAX as u64)].prop_map(Revision)
    }

    fn some_range() -> impl Strategy<Value = Range> {
        let order =
            prop_oneof![Just(SortOrder::None), Just(SortOrder::Ascend), Just(SortOrder::Descend)];
        let target = prop_oneof![
            Just(SortTarget::Key),
            Just(SortTarget::Version),
            Just(SortTarget::Create),
            Just(SortTarget::Mod),
            Just(SortTarget::Value),
        ];
        let revisions = proptest::array::uniform5(some_revision());
        (keys(), 0..9_u64, order, target, any::<[bool; 2]>(), revisions).prop_map(
            |(keys, limit, sort_order, sort_target, [keys_only, count_only], revisions)| Range {
                keys,
                limit,
                revision: revisions[0],
                sort_order,
                sort_target,
                keys_only,
                count_only,
                min_mod_revision: revisions[1],
                max_mod_revision: revisions[2],
                min_create_revision: revisions[3],
                max_create_revision: revisions[4],
            },
        )
    }

    fn some_put() -> impl Strategy<Value = Put> {
        (bytes(), bytes(), any::<i64>(), any::<[bool; 3]>()).prop_map(
            |(key, value, lease, flags)| {
                let [prev_kv, ignore_value, ignore_lease] = flags;
                Put { key, value, lease, prev_kv, ignore_value, ignore_lease }
            },
        )
    }

    fn some_delete() -> impl Strategy<Value = DeleteRange> {
        (keys(), any::<bool>()).prop_map(|(keys, prev_kv)| DeleteRange { keys, prev_kv })
    }

    fn some_compare() -> impl Strategy<Value = Compare> {
        let relation = prop_oneof![
            Just(Relation::Equal),
            Just(Relation::Greater),
            Just(Relation::Less),
            Just(Relation::NotEqual),
        ];
        let operand = prop_oneof![
            any::<i64>().prop_map(Operand::Version),
            any::<i64>().prop_map(Operand::Create),
            any::<i64>().prop_map(Operand::Mod),
            bytes().prop_map(Operand::Value),
            any::<i64>().prop_map(Operand::Lease),
        ];
        (keys(), relation, operand).prop_map(|(keys, relation, operand)| Compare {
            keys,
            relation,
            operand,
        })
    }

    fn txn_of(op: impl Strategy<Value = Op> + Clone) -> impl Strategy<Value = Txn> {
        let ops = proptest::collection::vec(op, 0..4);
        (proptest::collection::vec(some_compare(), 0..3), ops.clone(), ops)
            .prop_map(|(compare, success, failure)| Txn { compare, success, failure })
    }

    fn some_op() -> impl Strategy<Value = Op> + Clone {
        let leaf = prop_oneof![
            some_range().prop_map(Op::Range),
            some_put().prop_map(Op::Put),
            some_delete().prop_map(Op::DeleteRange),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| txn_of(inner).prop_map(Op::Txn)).boxed()
    }

    fn some_consistency() -> impl Strategy<Value = Consistency> {
        prop_oneof![Just(Consistency::Linearizable), Just(Consistency::Serializable)]
    }

    /// What arrives of a message that was sent.
    fn sent<M: Message + Default>(message: &M) -> M {
        M::decode(message.encode_to_vec().as_slice()).expect("what was encoded can be decoded")
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_range_arrives_as_it_was_meant(meant in some_range(), fresh in some_consistency()) {
            let arrived = range(sent(&client::range(&meant, fresh)));
            prop_assert_eq!(arrived, Ok((meant, fresh)));
        }

        #[test]
        fn a_put_arrives_as_it_was_meant(meant in some_put()) {
            prop_assert_eq!(put(sent(&client::put(&meant))), meant);
        }

        #[test]
        fn a_deletion_arrives_as_it_was_meant(meant in some_delete()) {
            prop_assert_eq!(delete_range(sent(&client::delete_range(&meant))), meant);
        }

        #[test]
        fn a_transaction_arrives_as_it_was_meant(
            meant in txn_of(some_op()),
            fresh in some_consistency(),
        ) {
            fn writes(ops: &[Op]) -> bool {
                ops.iter().any(|op| match op {
                    Op::Range(_) => false,
                    Op::Put(_) | Op::DeleteRange(_) => true,
                    Op::Txn(txn) => writes(&txn.success) || writes(&txn.failure),
                })
            }
            fn reads(ops: &[Op]) -> bool {
                ops.iter().any(|op| match op {
                    Op::Range(_) => true,
                    Op::Put(_) | Op::DeleteRange(_) => false,
                    Op::Txn(txn) => reads(&txn.success) || reads(&txn.failure),
                })
            }
            let plan = plan_txn(sent(&client::txn(&meant, fresh)));
            let (arrived, path) = match plan.expect("it has a meaning") {
                Plan::Read(txn, consistency) => (txn, Some(consistency)),
                Plan::Write(Command::Txn(txn)) => (txn, None),
                other => panic!("{other:?}"),
            };
            let expected = if writes(&meant.success) || writes(&meant.failure) {
                None
            } else if reads(&meant.success) || reads(&meant.failure) {
                Some(fresh)
            } else {
                // It reads nothing but by its comparisons, which have no consistency of their own.
                Some(Consistency::Serializable)
            };
            prop_assert_eq!(path, expected);
            prop_assert_eq!(arrived, meant);
        }
    }

    #[test]
    fn one_linearizable_range_makes_the_transaction_linearizable() {
        let request = |serializable| pb::RequestOp {
            request: Some(WireOp::RequestRange(pb::RangeRequest {
                key: Bytes::from_static(b"k"),
                serializable,
                ..pb::RangeRequest::default()
            })),
        };
        let path = |success, failure| match plan_txn(pb::TxnRequest {
            compare: Vec::new(),
            success,
            failure,
        }) {
            Ok(Plan::Read(_, consistency)) => consistency,
            other => panic!("{other:?}"),
        };
        let serializable = path(vec![request(true)], vec![request(true)]);
        assert_eq!(serializable, Consistency::Serializable);
        let first = path(vec![request(false)], vec![request(true)]);
        assert_eq!(first, Consistency::Linearizable);
        let last = path(vec![request(true)], vec![request(true), request(false)]);
        assert_eq!(last, Consistency::Linearizable);
    }

    #[test]
    fn numbers_below_zero_have_the_meaning_they_have_in_etcd() {
        let request = pb::RangeRequest {
            limit: -1,
            revision: -1,
            min_mod_revision: -1,
            max_mod_revision: -1,
            max_create_revision: i64::MIN,
            ..pb::RangeRequest::default()
        };
        let (range, _) = range(request).expect("it has a meaning");
        assert_eq!((range.limit, range.revision), (0, Revision(0)));
        assert_eq!(range.min_mod_revision, Revision(0), "no bound");
        assert_eq!(range.max_mod_revision, Revision(1), "a bound below every key");
        assert_eq!(range.max_create_revision, Revision(1), "a bound below every key");
        let compaction = |revision| compact(pb::CompactionRequest { revision, physical: true });
        assert_eq!(compaction(-1), Err(ApiError::Compacted));
        assert_eq!(compaction(7), Ok(Command::Compact { revision: Revision(7) }));
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        let sort_order = pb::RangeRequest { sort_order: 3, ..pb::RangeRequest::default() };
        assert_eq!(range(sort_order).err(), Some(ApiError::InvalidSortOption));
        let sort_target = pb::RangeRequest { sort_target: -1, ..pb::RangeRequest::default() };
        assert_eq!(range(sort_target).err(), Some(ApiError::InvalidSortOption));
        let empty = pb::RequestOp { request: None };
        let txn = pb::TxnRequest { success: vec![empty], ..pb::TxnRequest::default() };
        assert_eq!(plan_txn(txn).err(), Some(ApiError::KeyNotFound));
        for strange in [
            pb::Compare { target: 5, ..pb::Compare::default() },
            pb::Compare { result: 4, ..pb::Compare::default() },
        ] {
            let txn = pb::TxnRequest { compare: vec![strange], ..pb::TxnRequest::default() };
            assert_eq!(plan_txn(txn).err(), Some(ApiError::InvalidCompare));
        }
    }

    #[test]
    fn the_decoder_bounds_the_depth_of_nesting() {
        let nested = |levels| {
            let mut txn = pb::TxnRequest::default();
            for _ in 0..levels {
                let request = Some(WireOp::RequestTxn(txn));
                let success = vec![pb::RequestOp { request }];
                txn = pb::TxnRequest { success, ..pb::TxnRequest::default() };
            }
            pb::TxnRequest::decode(txn.encode_to_vec().as_slice()).map(plan_txn)
        };
        assert!(matches!(nested(40), Ok(Ok(Plan::Read(..)))));
        assert!(nested(60).is_err());
    }

    #[test]
    fn an_operand_of_another_kind_counts_as_zero() {
        let given = [None, Some(TargetUnion::Version(7))];
        for target_union in given {
            let request = pb::Compare { target: 2, target_union, ..pb::Compare::default() };
            assert_eq!(compare(request).map(|compare| compare.operand), Ok(Operand::Mod(0)));
        }
    }

    fn header(revision: i64) -> pb::ResponseHeader {
        pb::ResponseHeader { cluster_id: 1, member_id: 2, revision, raft_term: 3 }
    }

    fn pair() -> Arc<KeyValue> {
        Arc::new(KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            create_revision: Revision(2),
            mod_revision: Revision(5),
            version: 3,
            lease: -9,
        })
    }

    #[test]
    fn a_pair_shares_the_bytes_of_the_store() {
        let stored = pair();
        let told = key_value(&stored);
        assert_eq!(told.value.as_ptr(), stored.value.as_ptr());
        assert_eq!(told.key.as_ptr(), stored.key.as_ptr());
        assert_eq!((told.create_revision, told.mod_revision, told.version), (2, 5, 3));
        assert_eq!(told.lease, -9);
    }

    #[test]
    fn keys_only_leaves_out_the_values_and_nothing_else() {
        let found = Found { kvs: vec![pair()], more: true, count: 4, keys_only: true };
        let told = range_response(header(6), Outcome::Range(found));
        assert_eq!((told.header, told.more, told.count), (Some(header(6)), true, 4));
        let expected = mvccpb::KeyValue { value: Bytes::new(), ..key_value(&pair()) };
        assert_eq!(told.kvs, [expected]);
    }

    #[test]
    fn a_previous_pair_is_told_if_there_is_one() {
        let told = put_response(header(6), Outcome::Put { prev: Some(pair()) });
        assert_eq!(told.prev_kv, Some(key_value(&pair())));
        let told = put_response(header(6), Outcome::Put { prev: None });
        assert_eq!(told.prev_kv, None);
        let gone = Outcome::DeleteRange { deleted: 2, prev: vec![pair(), pair()] };
        let told = delete_response(header(6), gone);
        assert_eq!((told.deleted, told.prev_kvs.len()), (2, 2));
    }

    /// The revisions of the inner headers, depth first; a nested transaction shows as a list.
    fn inner_revisions(answer: &pb::TxnResponse) -> String {
        let one = |op: &pb::ResponseOp| match op.response.as_ref().expect("an answer") {
            WireAnswer::ResponseRange(range) => bare(range.header.as_ref()),
            WireAnswer::ResponsePut(put) => bare(put.header.as_ref()),
            WireAnswer::ResponseDeleteRange(delete) => bare(delete.header.as_ref()),
            WireAnswer::ResponseTxn(txn) => {
                assert_eq!(txn.header, Some(pb::ResponseHeader::default()));
                inner_revisions(txn)
            }
        };
        fn bare(header: Option<&pb::ResponseHeader>) -> String {
            let header = header.expect("an inner answer has a header");
            assert_eq!((header.cluster_id, header.member_id, header.raft_term), (0, 0, 0));
            header.revision.to_string()
        }
        let revisions: Vec<_> = answer.responses.iter().map(one).collect();
        format!("[{}]", revisions.join(" "))
    }

    #[test]
    fn inner_headers_hold_the_revision_each_operation_saw() {
        let range = || Outcome::Range(Found::default());
        let put = || Outcome::Put { prev: None };
        let delete = |deleted| Outcome::DeleteRange { deleted, prev: Vec::new() };
        let nest = |outcomes| Outcome::Txn { succeeded: true, outcomes };
        let told = |outcomes: Vec<Outcome>| {
            let answer = txn_response(header(9), nest(outcomes));
            assert_eq!((answer.header, answer.succeeded), (Some(header(9)), true));
            inner_revisions(&answer)
        };
        assert_eq!(told(vec![]), "[]");
        assert_eq!(told(vec![range(), range()]), "[9 9]", "nothing was written");
        assert_eq!(told(vec![range(), put(), range()]), "[8 9 9]");
        assert_eq!(told(vec![delete(0), range()]), "[9 9]", "nothing was deleted");
        assert_eq!(told(vec![delete(0), delete(1), delete(0)]), "[8 9 9]");
        assert_eq!(told(vec![range(), nest(vec![range(), put()]), range()]), "[8 [8 9] 9]");
        assert_eq!(told(vec![nest(vec![]), put()]), "[[] 9]");
    }
}
