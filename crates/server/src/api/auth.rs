//! The Auth service: users, roles, permissions, tokens.
//!
//! Changes are commands of the log, answered when they have been carried out here. Passwords are
//! turned into hashes before, and never travel further than to this member; a hash that a client
//! sends is not looked at, as in etcd, where the member that is asked makes it as well.

use super::errors::ApiError;
use super::header::Headers;
use crate::audit::What;
use crate::auth::{Asker, Gate};
use crate::handle::Handle;
use crate::proto::authpb;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::auth_server;
use bytes::Bytes;
use quorate_replica::store::auth::TOKEN_KEY_BYTES;
use quorate_replica::store::{Access, Asking, AuthCommand, Command, Keys, Outcome, Permission};
use tonic::{Request, Response, Status};

/// The service, over one replica.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    handle: Handle,
    headers: Headers,
    gate: Gate,
}

impl Auth {
    /// The service.
    pub(crate) fn new(handle: Handle, gate: Gate) -> Auth {
        let headers = Headers::of(&handle);
        Auth { handle, headers, gate }
    }

    async fn change(
        &self,
        asker: &Asker,
        command: AuthCommand,
    ) -> Result<Option<pb::ResponseHeader>, ApiError> {
        let name = command.name();
        let applied = self.gate.write(asker, &Command::Auth(command)).await?;
        let outcome = applied.outcome?;
        assert_eq!(outcome, Outcome::Auth, "a change of users and roles was answered otherwise");
        tracing::info!(change = name, "users or roles have changed");
        Ok(Some(self.headers.at(applied.revision, applied.term)))
    }

    /// A password of a request, as it is kept.
    async fn hash(&self, password: String) -> Result<Bytes, ApiError> {
        self.gate.hash(password).await
    }
}

/// A key that nobody can guess.
fn token_key() -> Result<Bytes, Status> {
    let mut key = vec![0; TOKEN_KEY_BYTES];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut key)
        .map_err(|_| Status::internal("etcdserver: the system gives no randomness"))?;
    Ok(Bytes::from(key))
}

fn text(name: &Bytes) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// A permission as it is kept.
///
/// Errors: there is none, or it is of no known kind.
fn permission(perm: Option<authpb::Permission>) -> Result<Permission, ApiError> {
    let authpb::Permission { perm_type, key, range_end } =
        perm.ok_or(ApiError::PermissionNotGiven)?;
    let code = u8::try_from(perm_type).ok();
    let access = code.and_then(Access::of_code).ok_or(ApiError::InvalidAuthManagement)?;
    Ok(Permission { keys: Keys { key, range_end }, access })
}

fn wire(permission: &Permission) -> authpb::Permission {
    let Keys { key, range_end } = permission.keys.clone();
    authpb::Permission { perm_type: permission.access.code().into(), key, range_end }
}

#[tonic::async_trait]
impl auth_server::Auth for Auth {
    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        asker.asks(|| What::login(&name));
        let token = self.gate.login(&name, &password).await?;
        let status = self.handle.status();
        let header = Some(self.headers.at(status.revision, status.term));
        Ok(Response::new(pb::AuthenticateResponse { header, token }))
    }

    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let command = AuthCommand::Enable { token_key: token_key()? };
        let header = self.change(&Asker::of(request.extensions()), command).await?;
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let header = self.change(&asker, AuthCommand::Disable).await?;
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let snapshot = self.gate.judged_snapshot(&asker, Asking::Root).await?;
        let header = Some(self.headers.at(snapshot.store.revision(), snapshot.term));
        let auth = snapshot.store.auth();
        let (enabled, auth_revision) = (auth.is_enabled(), auth.revision());
        Ok(Response::new(pb::AuthStatusResponse { header, enabled, auth_revision }))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let pb::AuthUserAddRequest { name, password, options, .. } = request.into_inner();
        if name.is_empty() {
            return Err(ApiError::UserEmpty.into());
        }
        let hash = match options.is_some_and(|options| options.no_password) {
            true => None,
            false => Some(self.hash(password).await?),
        };
        let command = AuthCommand::UserAdd { name: Bytes::from(name), hash };
        let header = self.change(&asker, command).await?;
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let name = request.into_inner().name;
        let asking = Asking::User(name.as_bytes());
        let snapshot = self.gate.judged_snapshot(&asker, asking).await?;
        let header = Some(self.headers.at(snapshot.store.revision(), snapshot.term));
        let user = snapshot.store.auth().user(name.as_bytes()).ok_or(ApiError::UserNotFound)?;
        let roles = user.roles.iter().map(text).collect();
        Ok(Response::new(pb::AuthUserGetResponse { header, roles }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let snapshot = self.gate.judged_snapshot(&asker, Asking::Root).await?;
        let header = Some(self.headers.at(snapshot.store.revision(), snapshot.term));
        let users = snapshot.store.auth().users().map(|(name, _)| text(name)).collect();
        Ok(Response::new(pb::AuthUserListResponse { header, users }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let name = Bytes::from(request.into_inner().name);
        let header = self.change(&asker, AuthCommand::UserDelete { name }).await?;
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let pb::AuthUserChangePasswordRequest { name, password, .. } = request.into_inner();
        let hash = self.hash(password).await?;
        let command = AuthCommand::UserPassword { name: Bytes::from(name), hash };
        let header = self.change(&asker, command).await?;
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let pb::AuthUserGrantRoleRequest { user, role } = request.into_inner();
        let command = AuthCommand::UserGrantRole { user: user.into(), role: role.into() };
        let header = self.change(&asker, command).await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let pb::AuthUserRevokeRoleRequest { name, role } = request.into_inner();
        let command = AuthCommand::UserRevokeRole { user: name.into(), role: role.into() };
        let header = self.change(&asker, command).await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let name = Bytes::from(request.into_inner().name);
        let header = self.change(&asker, AuthCommand::RoleAdd { name }).await?;
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let name = request.into_inner().role;
        let asking = Asking::Role(name.as_bytes());
        let snapshot = self.gate.judged_snapshot(&asker, asking).await?;
        let header = Some(self.headers.at(snapshot.store.revision(), snapshot.term));
        let role = snapshot.store.auth().role(name.as_bytes()).ok_or(ApiError::RoleNotFound)?;
        let perm = role.permissions().iter().map(wire).collect();
        Ok(Response::new(pb::AuthRoleGetResponse { header, perm }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let snapshot = self.gate.judged_snapshot(&asker, Asking::Root).await?;
        let header = Some(self.headers.at(snapshot.store.revision(), snapshot.term));
        let roles = snapshot.store.auth().roles().map(|(name, _)| text(name)).collect();
        Ok(Response::new(pb::AuthRoleListResponse { header, roles }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let name = Bytes::from(request.into_inner().role);
        let header = self.change(&asker, AuthCommand::RoleDelete { name }).await?;
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let pb::AuthRoleGrantPermissionRequest { name, perm } = request.into_inner();
        let permission = permission(perm)?;
        let command = AuthCommand::RoleGrant { role: Bytes::from(name), permission };
        let header = self.change(&asker, command).await?;
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse { header }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let pb::AuthRoleRevokePermissionRequest { role, key, range_end } = request.into_inner();
        let keys = Keys { key, range_end };
        let command = AuthCommand::RoleRevoke { role: Bytes::from(role), keys };
        let header = self.change(&asker, command).await?;
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse { header }))
    }
}
