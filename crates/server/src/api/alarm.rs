//! What is asked of alarms and how they are told: pure, in the shapes of etcd 3.5.

use super::errors::ApiError;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::alarm_request::AlarmAction as WireAction;
use quorate_replica::store::{Alarm, AlarmAction, AlarmKind, Store};

/// What a request on alarms asks of the replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Plan {
    /// Those of one kind, or all.
    List(Option<AlarmKind>),
    /// A change.
    Write(AlarmAction),
    /// A change of no kind of alarm: etcd answers with none.
    Nothing,
}

/// As in etcd, listing does not look at the member.
///
/// Errors: [`ApiError::InvalidAlarm`] for an action or a kind that does not exist.
pub(super) fn plan(request: &pb::AlarmRequest) -> Result<Plan, ApiError> {
    let action = WireAction::try_from(request.action).map_err(|_| ApiError::InvalidAlarm)?;
    let kind = match pb::AlarmType::try_from(request.alarm).map_err(|_| ApiError::InvalidAlarm)? {
        pb::AlarmType::None => None,
        pb::AlarmType::Nospace => Some(AlarmKind::NoSpace),
        pb::AlarmType::Corrupt => Some(AlarmKind::Corrupt),
    };
    let alarm = kind.map(|kind| Alarm { kind, member: request.member_id });
    Ok(match (action, alarm) {
        (WireAction::Get, _) => Plan::List(kind),
        (_, None) => Plan::Nothing,
        (WireAction::Activate, Some(alarm)) => Plan::Write(AlarmAction::Raise(alarm)),
        (WireAction::Deactivate, Some(alarm)) => Plan::Write(AlarmAction::Clear(alarm)),
    })
}

/// The alarms of one kind, or all.
pub(super) fn listed(store: &Store, kind: Option<AlarmKind>) -> impl Iterator<Item = Alarm> {
    store.alarms().filter(move |alarm| kind.is_none_or(|kind| kind == alarm.kind))
}

/// The answer that tells these alarms.
pub(super) fn response(
    header: pb::ResponseHeader,
    alarms: impl IntoIterator<Item = Alarm>,
) -> pb::AlarmResponse {
    let told = |Alarm { kind, member }| pb::AlarmMember { member_id: member, alarm: wire(kind) };
    pb::AlarmResponse { header: Some(header), alarms: alarms.into_iter().map(told).collect() }
}

/// The alarms among the errors of a status, where etcd's tools look for them, to the letter.
pub(super) fn errors(alarms: &[Alarm]) -> Vec<String> {
    let text = |Alarm { kind, member }: &Alarm| match member {
        0 => format!("alarm:{kind} "),
        member => format!("memberID:{member} alarm:{kind} "),
    };
    alarms.iter().map(text).collect()
}

fn wire(kind: AlarmKind) -> i32 {
    kind.code().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(action: i32, member_id: u64, alarm: i32) -> pb::AlarmRequest {
        pb::AlarmRequest { action, member_id, alarm }
    }

    #[test]
    fn requests_are_planned_as_in_etcd() {
        let tight = Alarm { kind: AlarmKind::NoSpace, member: 7 };
        let cases = [
            (request(0, 0, 0), Ok(Plan::List(None))),
            (request(0, 7, 2), Ok(Plan::List(Some(AlarmKind::Corrupt)))),
            (request(1, 7, 1), Ok(Plan::Write(AlarmAction::Raise(tight)))),
            (request(2, 7, 1), Ok(Plan::Write(AlarmAction::Clear(tight)))),
            (request(1, 7, 0), Ok(Plan::Nothing)),
            (request(2, 0, 0), Ok(Plan::Nothing)),
            (request(3, 0, 0), Err(ApiError::InvalidAlarm)),
            (request(-1, 0, 0), Err(ApiError::InvalidAlarm)),
            (request(0, 0, 9), Err(ApiError::InvalidAlarm)),
        ];
        for (request, planned) in cases {
            assert_eq!(plan(&request), planned, "{request:?}");
        }
    }

    #[test]
    fn an_alarm_has_the_number_and_the_text_of_etcd() {
        let alarms = [
            Alarm { kind: AlarmKind::NoSpace, member: 0 },
            Alarm { kind: AlarmKind::Corrupt, member: 77 },
        ];
        assert_eq!(errors(&alarms), ["alarm:NOSPACE ", "memberID:77 alarm:CORRUPT "]);
        let told = response(pb::ResponseHeader::default(), alarms).alarms;
        assert_eq!(told[0].alarm, i32::from(pb::AlarmType::Nospace));
        assert_eq!(told[1], pb::AlarmMember { member_id: 77, alarm: 2 });
    }
}
