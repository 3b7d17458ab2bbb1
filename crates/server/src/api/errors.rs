//! The errors of the API: etcd's codes and texts to the letter, because clients match both.
//!
//! clientv3 maps errors by their whole text, npm's etcd3 by a part of it, Patroni by text and
//! code. An error that etcd does not have carries a text of its own.

use crate::Refusal;
use crate::overload::{AGAIN_AFTER, push_back};
use quorate_replica::store::{AuthError, Denied, Invalid, KvError};
use tonic::{Code, Status};

/// Why a request was not carried out, as clients are told.
///
/// Source: etcd's public table of errors, `api/v3rpc/rpctypes/error.go`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ApiError {
    /// A request without a key.
    EmptyKey,
    /// The key must exist and does not; also the answer to an empty operation in a transaction.
    KeyNotFound,
    /// A value together with "keep the value".
    ValueProvided,
    /// A lease together with "keep the lease".
    LeaseProvided,
    /// More operations in a transaction than the limit.
    TooManyOps,
    /// A transaction that would write one key twice.
    DuplicateKey,
    /// A sort order or target that does not exist.
    InvalidSortOption,
    /// A comparison whose target or relation does not exist. Not an error of etcd, where such a
    /// comparison holds.
    InvalidCompare,
    /// Above the limit of bytes.
    RequestTooLarge,
    /// The revision has been forgotten.
    Compacted,
    /// The revision has not happened yet.
    FutureRevision,
    /// The quota is used up.
    NoSpace,
    /// Too much is queued.
    TooManyRequests,
    /// The lease is unknown.
    LeaseNotFound,
    /// A lease of this id is there already.
    LeaseExists,
    /// A lease longer than any that is granted.
    LeaseTtlTooLarge,
    /// The member is unknown.
    MemberNotFound,
    /// A member of this id exists.
    MemberExists,
    /// A member of this peer URL exists.
    PeerUrlExists,
    /// The change would leave too few started members for a quorum.
    NotEnoughStartedMembers,
    /// URLs that are none.
    BadMemberUrls,
    /// Only a learner can be promoted.
    NotALearner,
    /// The learner lags too far behind to be promoted.
    LearnerNotReady,
    /// No further learner is allowed.
    TooManyLearners,
    /// No leader is known.
    NoLeader,
    /// Only the leader can do this.
    NotLeader,
    /// The leader changed while the request waited.
    LeaderChanged,
    /// This member is stopping.
    Stopped,
    /// No answer in time.
    TimedOut,
    /// No answer in time, and the leader was lost meanwhile.
    TimedOutLeaderLost,
    /// No answer in time, and the connection to the leader was lost meanwhile.
    TimedOutConnectionLost,
    /// This member did not catch up in time.
    TimedOutApplying,
    /// The cluster has too few healthy members for the change.
    Unhealthy,
    /// This member's state differs from the quorum's.
    Corrupt,
    /// A learner does not serve this.
    NotSupportedForLearner,
    /// A witness does not serve this. Not an error of etcd, which has no witnesses.
    Witness,
    /// Witnesses alone would be a quorum. Not an error of etcd.
    TooManyWitnesses,
    /// The wanted leader is no voter.
    BadLeaderTransferee,
    /// The cluster as it is now cannot do this.
    NotCapable,
    /// As many members as a cluster can have. Not an error of etcd, which has no bound.
    TooManyMembers,
    /// Another one is to take the member's place already. Not an error of etcd.
    BeingReplaced,
    /// An alarm or an action on alarms that does not exist. Not an error of etcd, which stops at
    /// an unknown action.
    InvalidAlarm,
    /// The version to go back to is no version.
    BadDowngradeVersion,
    /// The version to go back to is not the one before this one.
    InvalidDowngradeVersion,
    /// No downgrade is under way.
    NoDowngrade,
    /// Authentication is off.
    AuthNotEnabled,
    /// The user may not do this.
    PermissionDenied,
    /// The token is unknown.
    InvalidAuthToken,
    /// The token is older than the latest change of users and roles.
    AuthOldRevision,
    /// No such user, or not this password.
    AuthFailed,
    /// A login with a password as a user who has none.
    NoPasswordUser,
    /// Authentication cannot be turned on without a root user,
    RootUserMissing,
    /// who has the root role.
    RootRoleMissing,
    /// A user of this name exists.
    UserExists,
    /// No user has this name.
    UserNotFound,
    /// A role without a name.
    RoleEmpty,
    /// A role of this name exists.
    RoleExists,
    /// No role has this name.
    RoleNotFound,
    /// The user does not have the role.
    RoleNotGranted,
    /// The role does not have the permission.
    PermissionNotGranted,
    /// A permission to be granted is missing.
    PermissionNotGiven,
    /// What root needs would be taken away, or a permission is on no range.
    InvalidAuthManagement,
    /// Users and roles have used up their room. Not an error of etcd.
    AuthTooLarge,
    /// More bytes than bcrypt looks at. Not an error of etcd, where the rest does not count.
    PasswordTooLong,
    /// This member takes signed tokens and cannot make any.
    VerifyOnly,
    /// A lock that the request depends on is not held with the token that it names.
    Fenced,
    /// The answer to a request of this name may be forgotten.
    RequestForgotten,
    /// Another request had this name.
    RequestReused,
    /// The request was carried out, and its answer was too long to be kept.
    AnswerNotKept,
    /// A prefix would take more than it may. Not an error of etcd.
    QuotaExceeded,
    /// A change of limits that is none. Not an error of etcd.
    BadLimit,
    /// A request without a user while authentication is on.
    UserEmpty,
}

impl ApiError {
    /// The gRPC code and the text.
    pub fn code_and_text(self) -> (Code, &'static str) {
        use ApiError as E;
        match self {
            E::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
            E::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
            E::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
            E::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
            E::TooManyOps => {
                (Code::InvalidArgument, "etcdserver: too many operations in txn request")
            }
            E::DuplicateKey => {
                (Code::InvalidArgument, "etcdserver: duplicate key given in txn request")
            }
            E::InvalidSortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
            E::InvalidCompare => (Code::InvalidArgument, "etcdserver: invalid comparison"),
            E::RequestTooLarge => (Code::InvalidArgument, "etcdserver: request is too large"),
            E::Compacted => {
                (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")
            }
            E::FutureRevision => {
                (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
            }
            E::NoSpace => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            E::TooManyRequests => (Code::ResourceExhausted, "etcdserver: too many requests"),
            E::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
            E::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
            E::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
            E::PermissionDenied => (Code::PermissionDenied, "etcdserver: permission denied"),
            E::InvalidAuthToken => (Code::Unauthenticated, "etcdserver: invalid auth token"),
            E::AuthOldRevision => {
                (Code::InvalidArgument, "etcdserver: revision of auth store is old")
            }
            E::UserEmpty => (Code::InvalidArgument, "etcdserver: user name is empty"),
            E::AuthNotEnabled => {
                (Code::FailedPrecondition, "etcdserver: authentication is not enabled")
            }
            E::InvalidAlarm => (Code::InvalidArgument, "etcdserver: invalid alarm"),
            E::BadDowngradeVersion => {
                (Code::InvalidArgument, "etcdserver: wrong downgrade target version format")
            }
            E::InvalidDowngradeVersion => {
                (Code::InvalidArgument, "etcdserver: invalid downgrade target version")
            }
            E::Corrupt => (Code::DataLoss, "etcdserver: corrupt cluster"),
            _ => self.code_and_text_of_cluster(),
        }
    }

    /// The second part of the table: members, leaders, time.
    fn code_and_text_of_cluster(self) -> (Code, &'static str) {
        use ApiError as E;
        let failed = |text| (Code::FailedPrecondition, text);
        let unavailable = |text| (Code::Unavailable, text);
        match self {
            E::MemberNotFound => (Code::NotFound, "etcdserver: member not found"),
            E::MemberExists => failed("etcdserver: member ID already exist"),
            E::PeerUrlExists => failed("etcdserver: Peer URLs already exists"),
            E::NotEnoughStartedMembers => {
                failed("etcdserver: re-configuration failed due to not enough started members")
            }
            E::BadMemberUrls => {
                (Code::InvalidArgument, "etcdserver: given member URLs are invalid")
            }
            E::NotALearner => failed("etcdserver: can only promote a learner member"),
            E::LearnerNotReady => {
                failed("etcdserver: can only promote a learner member which is in sync with leader")
            }
            E::TooManyLearners => failed("etcdserver: too many learner members in cluster"),
            E::NotLeader => failed("etcdserver: not leader"),
            E::NotSupportedForLearner => failed("etcdserver: rpc not supported for learner"),
            E::TooManyWitnesses => failed(
                "quorate: witnesses could be a quorum by themselves; add a member with a store",
            ),
            E::Witness => unavailable(
                "quorate: this member is a witness, which keeps no data; ask another one",
            ),
            E::BadLeaderTransferee => failed("etcdserver: bad leader transferee"),
            E::NotCapable => failed("etcdserver: not capable"),
            E::TooManyMembers => failed("etcdserver: too many members in cluster"),
            E::BeingReplaced => failed("etcdserver: the member is being replaced already"),
            E::NoDowngrade => failed("etcdserver: no inflight downgrade job"),
            E::NoLeader => unavailable("etcdserver: no leader"),
            E::LeaderChanged => unavailable("etcdserver: leader changed"),
            E::Stopped => unavailable("etcdserver: server stopped"),
            E::TimedOut => unavailable("etcdserver: request timed out"),
            E::TimedOutLeaderLost => unavailable(
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            E::TimedOutConnectionLost => {
                unavailable("etcdserver: request timed out, possibly due to connection lost")
            }
            E::TimedOutApplying => unavailable(
                "etcdserver: request timed out, waiting for the applied index took too long",
            ),
            E::Unhealthy => unavailable("etcdserver: unhealthy cluster"),
            _ => self.code_and_text_of_conditions(),
        }
    }

    /// The third part of the table: what a client may add to a write. None of them is etcd's.
    fn code_and_text_of_conditions(self) -> (Code, &'static str) {
        use ApiError as E;
        match self {
            E::Fenced => (
                Code::FailedPrecondition,
                "quorate: fenced: a lock is not held with the token of this request; nothing was \
                 written",
            ),
            E::RequestForgotten => (
                Code::FailedPrecondition,
                "quorate: unknown request id, too old: it may have been carried out before, and \
                 was not now; read what is there",
            ),
            E::RequestReused => (
                Code::InvalidArgument,
                "quorate: the request id was given to another request; nothing was written",
            ),
            E::QuotaExceeded => (
                Code::ResourceExhausted,
                "quorate: a storage quota is used up; nothing was written",
            ),
            E::BadLimit => (Code::InvalidArgument, "quorate: the limits stay as they are"),
            E::AnswerNotKept => (
                Code::FailedPrecondition,
                "quorate: the request was carried out, and its answer was too long to be kept",
            ),
            _ => self.code_and_text_of_users(),
        }
    }

    /// The last part of the table: users, roles and tokens.
    fn code_and_text_of_users(self) -> (Code, &'static str) {
        use ApiError as E;
        match self {
            E::AuthFailed => (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
            ),
            E::NoPasswordUser => (
                Code::Unknown,
                "auth: authentication failed, password was given for no password user",
            ),
            E::RootUserMissing => {
                (Code::FailedPrecondition, "etcdserver: root user does not exist")
            }
            E::RootRoleMissing => {
                (Code::FailedPrecondition, "etcdserver: root user does not have root role")
            }
            E::UserExists => (Code::FailedPrecondition, "etcdserver: user name already exists"),
            E::UserNotFound => (Code::FailedPrecondition, "etcdserver: user name not found"),
            E::RoleEmpty => (Code::InvalidArgument, "etcdserver: role name is empty"),
            E::RoleExists => (Code::FailedPrecondition, "etcdserver: role name already exists"),
            E::RoleNotFound => (Code::FailedPrecondition, "etcdserver: role name not found"),
            E::RoleNotGranted => {
                (Code::FailedPrecondition, "etcdserver: role is not granted to the user")
            }
            E::PermissionNotGranted => {
                (Code::FailedPrecondition, "etcdserver: permission is not granted to the role")
            }
            E::PermissionNotGiven => (Code::InvalidArgument, "etcdserver: permission not given"),
            E::InvalidAuthManagement => {
                (Code::InvalidArgument, "etcdserver: invalid auth management")
            }
            E::AuthTooLarge => {
                (Code::ResourceExhausted, "etcdserver: users and roles take too much space")
            }
            E::PasswordTooLong => {
                (Code::InvalidArgument, "etcdserver: the password is longer than 72 bytes")
            }
            E::VerifyOnly => (
                Code::FailedPrecondition,
                "etcdserver: this member has no private key to sign tokens with",
            ),
            _ => unreachable!("{self:?} has its text in an earlier part of the table"),
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> ApiError {
        match denied {
            Denied::NoUser => ApiError::UserEmpty,
            Denied::BadToken => ApiError::InvalidAuthToken,
            Denied::OldRevision => ApiError::AuthOldRevision,
            Denied::NotPermitted => ApiError::PermissionDenied,
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> ApiError {
        match error {
            AuthError::RootUserMissing => ApiError::RootUserMissing,
            AuthError::RootRoleMissing => ApiError::RootRoleMissing,
            AuthError::UserEmpty => ApiError::UserEmpty,
            AuthError::UserExists => ApiError::UserExists,
            AuthError::UserNotFound => ApiError::UserNotFound,
            AuthError::RoleEmpty => ApiError::RoleEmpty,
            AuthError::RoleExists => ApiError::RoleExists,
            AuthError::RoleNotFound => ApiError::RoleNotFound,
            AuthError::RoleNotGranted => ApiError::RoleNotGranted,
            AuthError::PermissionNotGranted => ApiError::PermissionNotGranted,
            AuthError::Invalid => ApiError::InvalidAuthManagement,
            AuthError::TooMuch => ApiError::AuthTooLarge,
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Status {
        let (code, text) = error.code_and_text();
        let mut status = Status::new(code, text);
        if error == ApiError::TooManyRequests {
            push_back(status.metadata_mut(), AGAIN_AFTER);
        }
        status
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        match refusal {
            Refusal::NoLeader => ApiError::NoLeader,
            Refusal::LeaderChanged => ApiError::LeaderChanged,
            Refusal::TooManyRequests => ApiError::TooManyRequests,
            Refusal::Stopping => ApiError::Stopped,
            Refusal::TimedOut => ApiError::TimedOut,
            Refusal::TimedOutLeaderLost => ApiError::TimedOutLeaderLost,
            Refusal::Corrupt => ApiError::Corrupt,
            Refusal::NotLeader => ApiError::NotLeader,
            Refusal::BadTransferee => ApiError::BadLeaderTransferee,
            Refusal::Learner => ApiError::NotSupportedForLearner,
            Refusal::Witness => ApiError::Witness,
        }
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> ApiError {
        match invalid {
            Invalid::KeyNotProvided => ApiError::EmptyKey,
            Invalid::ValueProvided => ApiError::ValueProvided,
            Invalid::LeaseProvided => ApiError::LeaseProvided,
            Invalid::TooManyOps => ApiError::TooManyOps,
            Invalid::DuplicateKey => ApiError::DuplicateKey,
            Invalid::InvalidSortOption => ApiError::InvalidSortOption,
            Invalid::EmptyOp => ApiError::KeyNotFound,
            Invalid::RequestTooLarge => ApiError::RequestTooLarge,
            Invalid::LeaseTtlTooLarge => ApiError::LeaseTtlTooLarge,
        }
    }
}

impl From<KvError> for ApiError {
    fn from(error: KvError) -> ApiError {
        match error {
            KvError::KeyNotFound => ApiError::KeyNotFound,
            KvError::LeaseNotFound => ApiError::LeaseNotFound,
            KvError::LeaseExists => ApiError::LeaseExists,
            KvError::Compacted { .. } => ApiError::Compacted,
            KvError::FutureRevision { .. } => ApiError::FutureRevision,
            KvError::TooLarge => ApiError::RequestTooLarge,
            KvError::NoSpace => ApiError::NoSpace,
            KvError::Corrupt => ApiError::Corrupt,
            KvError::Fenced { .. } => ApiError::Fenced,
            KvError::RequestForgotten => ApiError::RequestForgotten,
            KvError::RequestReused => ApiError::RequestReused,
            KvError::AnswerNotKept { .. } => ApiError::AnswerNotKept,
            KvError::Denied(why) => why.into(),
            KvError::Auth(why) => why.into(),
            KvError::Limit(_) => ApiError::BadLimit,
            KvError::QuotaExceeded { .. } => ApiError::QuotaExceeded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ApiError;
    use crate::Refusal;
    use quorate_replica::store::{AuthError, Denied, Invalid, KvError, Revision};
    use tonic::Status;

    /// What is on the wire: the number of the code and the text, written out once more so that a
    /// slip in the table above cannot hide.
    const ON_THE_WIRE: &[(ApiError, i32, &str)] = &[
        (ApiError::EmptyKey, 3, "etcdserver: key is not provided"),
        (ApiError::KeyNotFound, 3, "etcdserver: key not found"),
        (ApiError::ValueProvided, 3, "etcdserver: value is provided"),
        (ApiError::LeaseProvided, 3, "etcdserver: lease is provided"),
        (ApiError::TooManyOps, 3, "etcdserver: too many operations in txn request"),
        (ApiError::DuplicateKey, 3, "etcdserver: duplicate key given in txn request"),
        (ApiError::InvalidSortOption, 3, "etcdserver: invalid sort option"),
        (ApiError::InvalidCompare, 3, "etcdserver: invalid comparison"),
        (ApiError::RequestTooLarge, 3, "etcdserver: request is too large"),
        (ApiError::Compacted, 11, "etcdserver: mvcc: required revision has been compacted"),
        (ApiError::FutureRevision, 11, "etcdserver: mvcc: required revision is a future revision"),
        (ApiError::NoSpace, 8, "etcdserver: mvcc: database space exceeded"),
        (ApiError::TooManyRequests, 8, "etcdserver: too many requests"),
        (ApiError::LeaseNotFound, 5, "etcdserver: requested lease not found"),
        (ApiError::LeaseExists, 9, "etcdserver: lease already exists"),
        (ApiError::LeaseTtlTooLarge, 11, "etcdserver: too large lease TTL"),
        (ApiError::MemberNotFound, 5, "etcdserver: member not found"),
        (ApiError::MemberExists, 9, "etcdserver: member ID already exist"),
        (ApiError::PeerUrlExists, 9, "etcdserver: Peer URLs already exists"),
        (
            ApiError::NotEnoughStartedMembers,
            9,
            "etcdserver: re-configuration failed due to not enough started members",
        ),
        (ApiError::BadMemberUrls, 3, "etcdserver: given member URLs are invalid"),
        (ApiError::NotALearner, 9, "etcdserver: can only promote a learner member"),
        (
            ApiError::LearnerNotReady,
            9,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        (ApiError::TooManyLearners, 9, "etcdserver: too many learner members in cluster"),
        (ApiError::NoLeader, 14, "etcdserver: no leader"),
        (ApiError::NotLeader, 9, "etcdserver: not leader"),
        (ApiError::LeaderChanged, 14, "etcdserver: leader changed"),
        (ApiError::Stopped, 14, "etcdserver: server stopped"),
        (ApiError::TimedOut, 14, "etcdserver: request timed out"),
        (
            ApiError::TimedOutLeaderLost,
            14,
            "etcdserver: request timed out, possibly due to previous leader failure",
        ),
        (
            ApiError::TimedOutConnectionLost,
            14,
            "etcdserver: request timed out, possibly due to connection lost",
        ),
        (
            ApiError::TimedOutApplying,
            14,
            "etcdserver: request timed out, waiting for the applied index took too long",
        ),
        (ApiError::Unhealthy, 14, "etcdserver: unhealthy cluster"),
        (ApiError::Corrupt, 15, "etcdserver: corrupt cluster"),
        (ApiError::NotSupportedForLearner, 9, "etcdserver: rpc not supported for learner"),
        (
            ApiError::Witness,
            14,
            "quorate: this member is a witness, which keeps no data; ask another one",
        ),
        (
            ApiError::TooManyWitnesses,
            9,
            "quorate: witnesses could be a quorum by themselves; add a member with a store",
        ),
        (ApiError::BadLeaderTransferee, 9, "etcdserver: bad leader transferee"),
        (ApiError::NotCapable, 9, "etcdserver: not capable"),
        (ApiError::TooManyMembers, 9, "etcdserver: too many members in cluster"),
        (ApiError::BeingReplaced, 9, "etcdserver: the member is being replaced already"),
        (ApiError::InvalidAlarm, 3, "etcdserver: invalid alarm"),
        (ApiError::BadDowngradeVersion, 3, "etcdserver: wrong downgrade target version format"),
        (ApiError::InvalidDowngradeVersion, 3, "etcdserver: invalid downgrade target version"),
        (ApiError::NoDowngrade, 9, "etcdserver: no inflight downgrade job"),
        (ApiError::AuthNotEnabled, 9, "etcdserver: authentication is not enabled"),
        (ApiError::PermissionDenied, 7, "etcdserver: permission denied"),
        (ApiError::InvalidAuthToken, 16, "etcdserver: invalid auth token"),
        (ApiError::AuthOldRevision, 3, "etcdserver: revision of auth store is old"),
        (ApiError::AuthFailed, 3, "etcdserver: authentication failed, invalid user ID or password"),
        (
            ApiError::NoPasswordUser,
            2,
            "auth: authentication failed, password was given for no password user",
        ),
        (ApiError::RootUserMissing, 9, "etcdserver: root user does not exist"),
        (ApiError::RootRoleMissing, 9, "etcdserver: root user does not have root role"),
        (ApiError::UserExists, 9, "etcdserver: user name already exists"),
        (ApiError::UserNotFound, 9, "etcdserver: user name not found"),
        (ApiError::RoleEmpty, 3, "etcdserver: role name is empty"),
        (ApiError::RoleExists, 9, "etcdserver: role name already exists"),
        (ApiError::RoleNotFound, 9, "etcdserver: role name not found"),
        (ApiError::RoleNotGranted, 9, "etcdserver: role is not granted to the user"),
        (ApiError::PermissionNotGranted, 9, "etcdserver: permission is not granted to the role"),
        (ApiError::PermissionNotGiven, 3, "etcdserver: permission not given"),
        (ApiError::InvalidAuthManagement, 3, "etcdserver: invalid auth management"),
        (ApiError::AuthTooLarge, 8, "etcdserver: users and roles take too much space"),
        (ApiError::PasswordTooLong, 3, "etcdserver: the password is longer than 72 bytes"),
        (ApiError::VerifyOnly, 9, "etcdserver: this member has no private key to sign tokens with"),
        (
            ApiError::Fenced,
            9,
            "quorate: fenced: a lock is not held with the token of this request; nothing was \
             written",
        ),
        (
            ApiError::RequestForgotten,
            9,
            "quorate: unknown request id, too old: it may have been carried out before, and was \
             not now; read what is there",
        ),
        (
            ApiError::RequestReused,
            3,
            "quorate: the request id was given to another request; nothing was written",
        ),
        (ApiError::QuotaExceeded, 8, "quorate: a storage quota is used up; nothing was written"),
        (ApiError::BadLimit, 3, "quorate: the limits stay as they are"),
        (
            ApiError::AnswerNotKept,
            9,
            "quorate: the request was carried out, and its answer was too long to be kept",
        ),
        (ApiError::UserEmpty, 3, "etcdserver: user name is empty"),
    ];

    #[test]
    fn every_error_has_the_code_and_the_text_which_clients_match() {
        for &(error, code, text) in ON_THE_WIRE {
            let status = Status::from(error);
            assert_eq!(i32::from(status.code()), code, "{error:?}");
            assert_eq!(status.message(), text, "{error:?}");
        }
    }

    #[test]
    fn the_table_misses_no_error() {
        // `UserEmpty` is the last variant, so its number is the count less one.
        assert_eq!(ON_THE_WIRE.len(), ApiError::UserEmpty as usize + 1);
        for (number, &(error, ..)) in ON_THE_WIRE.iter().enumerate() {
            let seen_before = ON_THE_WIRE[..number].iter().any(|&(earlier, ..)| earlier == error);
            assert!(!seen_before, "{error:?} twice");
        }
    }

    #[test]
    fn no_refusal_that_may_still_happen_looks_definite() {
        let refusals = [
            (Refusal::NoLeader, ApiError::NoLeader),
            (Refusal::LeaderChanged, ApiError::LeaderChanged),
            (Refusal::TooManyRequests, ApiError::TooManyRequests),
            (Refusal::Stopping, ApiError::Stopped),
            (Refusal::TimedOut, ApiError::TimedOut),
            (Refusal::TimedOutLeaderLost, ApiError::TimedOutLeaderLost),
            (Refusal::Corrupt, ApiError::Corrupt),
            (Refusal::NotLeader, ApiError::NotLeader),
            (Refusal::BadTransferee, ApiError::BadLeaderTransferee),
            (Refusal::Learner, ApiError::NotSupportedForLearner),
            (Refusal::Witness, ApiError::Witness),
        ];
        for (refusal, error) in refusals {
            assert_eq!(ApiError::from(refusal), error);
            // A client that sees anything but these three may rely on nothing having happened.
            let open = matches!(
                error,
                ApiError::TimedOut | ApiError::TimedOutLeaderLost | ApiError::Stopped
            );
            assert_eq!(open, !refusal.is_definite(), "{refusal:?}");
        }
    }

    #[test]
    fn what_is_not_admitted_is_told_in_the_words_of_the_store() {
        for invalid in [
            Invalid::KeyNotProvided,
            Invalid::ValueProvided,
            Invalid::LeaseProvided,
            Invalid::TooManyOps,
            Invalid::DuplicateKey,
            Invalid::InvalidSortOption,
            Invalid::EmptyOp,
            Invalid::RequestTooLarge,
            Invalid::LeaseTtlTooLarge,
        ] {
            let (_, text) = ApiError::from(invalid).code_and_text();
            assert_eq!(text, invalid.to_string());
        }
    }

    #[test]
    fn what_users_and_roles_forbid_is_told_in_the_words_of_the_store() {
        for denied in [Denied::NoUser, Denied::BadToken, Denied::OldRevision, Denied::NotPermitted]
        {
            assert_eq!(ApiError::from(denied).code_and_text().1, denied.to_string());
        }
        for error in [
            AuthError::RootUserMissing,
            AuthError::RootRoleMissing,
            AuthError::UserEmpty,
            AuthError::UserExists,
            AuthError::UserNotFound,
            AuthError::RoleEmpty,
            AuthError::RoleExists,
            AuthError::RoleNotFound,
            AuthError::RoleNotGranted,
            AuthError::PermissionNotGranted,
            AuthError::Invalid,
            AuthError::TooMuch,
        ] {
            assert_eq!(ApiError::from(error).code_and_text().1, error.to_string());
        }
    }

    #[test]
    fn errors_of_the_store_keep_their_meaning() {
        let compacted = KvError::Compacted { compact_revision: Revision(7) };
        assert_eq!(ApiError::from(compacted), ApiError::Compacted);
        let future = KvError::FutureRevision { current: Revision(7) };
        assert_eq!(ApiError::from(future), ApiError::FutureRevision);
        assert_eq!(ApiError::from(KvError::KeyNotFound), ApiError::KeyNotFound);
        assert_eq!(ApiError::from(KvError::LeaseNotFound), ApiError::LeaseNotFound);
        assert_eq!(ApiError::from(KvError::LeaseExists), ApiError::LeaseExists);
        assert_eq!(ApiError::from(KvError::TooLarge), ApiError::RequestTooLarge);
        assert_eq!(ApiError::from(KvError::NoSpace), ApiError::NoSpace);
        assert_eq!(ApiError::from(KvError::Corrupt), ApiError::Corrupt);
    }
}
