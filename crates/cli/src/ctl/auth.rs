//! Users, roles and permissions, in the words of etcdctl.

use super::call::Effect;
use super::keys::{KeyFlags, KeyRange};
use super::print::header_json;
use super::{Caller, CtlError};
use crate::client::Channel;
use crate::login;
use clap::{Args, Subcommand, ValueEnum};
use quorate_server::proto::authpb::permission::Type;
use quorate_server::proto::authpb::{Permission, UserAddOptions};
use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::etcdserverpb::auth_client::AuthClient;
use serde_json::{Value, json};
use tonic::{Response, Status};

const AUTH_EXAMPLES: &str = "\
Examples:
  quorate ctl user add root               asks for a password
  quorate ctl user grant-role root root
  quorate ctl auth enable
  quorate ctl auth status --user root
  quorate ctl auth disable --user root";

const USER_EXAMPLES: &str = "\
Examples:
  quorate ctl user add ann                asks for a password; reads it from standard input if that
                                          is no terminal
  quorate ctl user add ann --no-password  for certificates only
  quorate ctl user grant-role ann readers
  quorate ctl user get ann --detail
  quorate ctl user passwd ann";

const ROLE_EXAMPLES: &str = "\
Examples:
  quorate ctl role add readers
  quorate ctl role grant-permission readers read config/ --prefix
  quorate ctl role grant-permission readers readwrite own
  quorate ctl role get readers
  quorate ctl role revoke-permission readers config/ --prefix";

#[derive(Args, Debug)]
#[command(after_help = AUTH_EXAMPLES)]
pub(super) struct Auth {
    #[command(subcommand)]
    command: AuthCommand,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum AuthCommand {
    /// Users and roles matter from now on; there must be a user root with the role root
    Enable,
    /// Everybody may do everything again
    Disable,
    /// Whether they matter
    Status,
}

#[derive(Args, Debug)]
#[command(after_help = USER_EXAMPLES)]
pub(super) struct User {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Subcommand)]
enum UserCommand {
    /// A further user
    Add {
        /// The name, perhaps with the password
        #[arg(value_name = "NAME[:PASSWORD]")]
        name: String,
        /// The password
        #[arg(long, value_name = "PASSWORD")]
        new_user_password: Option<String>,
        /// This user logs in by a certificate only
        #[arg(long, conflicts_with = "new_user_password")]
        no_password: bool,
    },
    /// A user less
    Delete {
        /// The name
        name: String,
    },
    /// The roles of a user
    Get {
        /// The name
        name: String,
        /// Also what the roles allow
        #[arg(long)]
        detail: bool,
    },
    /// All users
    List,
    /// Another password, asked for
    Passwd {
        /// The name
        name: String,
    },
    /// A user gets a role
    GrantRole {
        /// The user
        user: String,
        /// The role
        role: String,
    },
    /// A user loses a role
    RevokeRole {
        /// The user
        user: String,
        /// The role
        role: String,
    },
}

impl std::fmt::Debug for UserCommand {
    /// Without passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserCommand")
    }
}

#[derive(Args, Debug)]
#[command(after_help = ROLE_EXAMPLES)]
pub(super) struct Role {
    #[command(subcommand)]
    command: RoleCommand,
}

#[derive(Debug, Subcommand)]
enum RoleCommand {
    /// A further role
    Add {
        /// The name
        name: String,
    },
    /// A role less, also for the users who have it
    Delete {
        /// The name
        name: String,
    },
    /// What a role allows
    Get {
        /// The name
        name: String,
    },
    /// All roles
    List,
    /// A role allows more
    GrantPermission {
        /// The role
        role: String,
        /// To do what
        #[arg(value_enum)]
        access: Access,
        /// With which key
        key: String,
        #[command(flatten)]
        keys: KeyFlags,
    },
    /// A role allows less
    RevokePermission {
        /// The role
        role: String,
        /// With which key
        key: String,
        #[command(flatten)]
        keys: KeyFlags,
    },
}

/// What a permission allows.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Access {
    /// To read and to watch
    Read,
    /// To put and to delete
    Write,
    /// Both
    Readwrite,
}

impl From<Access> for Type {
    fn from(access: Access) -> Type {
        match access {
            Access::Read => Type::Read,
            Access::Write => Type::Write,
            Access::Readwrite => Type::Readwrite,
        }
    }
}

impl Auth {
    /// Does it.
    pub(super) async fn run(&self, caller: &Caller) -> Result<Value, CtlError> {
        match self.command {
            AuthCommand::Enable => {
                let request = pb::AuthEnableRequest {};
                let answer =
                    caller.ask(Effect::Write, async |mut auth| auth.auth_enable(request).await);
                let header = header_json(answer.await?.header.as_ref());
                caller.say("Authentication Enabled");
                Ok(json!({ "header": header, "enabled": true }))
            }
            AuthCommand::Disable => {
                let request = pb::AuthDisableRequest {};
                let answer =
                    caller.ask(Effect::Write, async |mut auth| auth.auth_disable(request).await);
                let header = header_json(answer.await?.header.as_ref());
                caller.say("Authentication Disabled");
                Ok(json!({ "header": header, "enabled": false }))
            }
            AuthCommand::Status => {
                let request = pb::AuthStatusRequest {};
                let answer =
                    caller.ask(Effect::Read, async |mut auth| auth.auth_status(request).await);
                let pb::AuthStatusResponse { header, enabled, auth_revision } = answer.await?;
                caller.say(format_args!("Authentication Status: {enabled}"));
                caller.say(format_args!("AuthRevision: {auth_revision}"));
                let header = header_json(header.as_ref());
                Ok(json!({ "header": header, "enabled": enabled, "auth_revision": auth_revision }))
            }
        }
    }
}

impl User {
    /// Does it.
    pub(super) async fn run(&self, caller: &Caller) -> Result<Value, CtlError> {
        match &self.command {
            UserCommand::Add { name, new_user_password, no_password } => {
                caller.add_user(name, new_user_password.as_deref(), *no_password).await
            }
            UserCommand::Delete { name } => {
                let request = pb::AuthUserDeleteRequest { name: name.clone() };
                let ask =
                    async |mut auth: AuthClient<Channel>| auth.user_delete(request.clone()).await;
                let answer = caller.ask(Effect::Write, ask).await?;
                caller.say(format_args!("User {name} deleted"));
                Ok(json!({ "header": header_json(answer.header.as_ref()), "user": name }))
            }
            UserCommand::Get { name, detail } => caller.show_user(name, *detail).await,
            UserCommand::List => {
                let request = pb::AuthUserListRequest {};
                let answer =
                    caller.ask(Effect::Read, async |mut auth| auth.user_list(request).await);
                let pb::AuthUserListResponse { header, users } = answer.await?;
                users.iter().for_each(|user| caller.say(user));
                Ok(json!({ "header": header_json(header.as_ref()), "users": users }))
            }
            UserCommand::Passwd { name } => {
                let password = login::new_password(name).map_err(CtlError::Login)?;
                let name = name.clone();
                let request =
                    pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
                let ask = async |mut auth: AuthClient<Channel>| {
                    auth.user_change_password(request.clone()).await
                };
                let answer = caller.ask(Effect::Write, ask).await?;
                caller.say("Password updated");
                Ok(json!({ "header": header_json(answer.header.as_ref()), "user": request.name }))
            }
            UserCommand::GrantRole { user, role } => {
                let (user, role) = (user.clone(), role.clone());
                let request = pb::AuthUserGrantRoleRequest { user, role };
                let ask = async |mut auth: AuthClient<Channel>| {
                    auth.user_grant_role(request.clone()).await
                };
                let answer = caller.ask(Effect::Write, ask).await?;
                let pb::AuthUserGrantRoleRequest { user, role } = &request;
                caller.say(format_args!("Role {role} is granted to user {user}"));
                let header = header_json(answer.header.as_ref());
                Ok(json!({ "header": header, "user": user, "role": role }))
            }
            UserCommand::RevokeRole { user, role } => {
                let (name, role) = (user.clone(), role.clone());
                let request = pb::AuthUserRevokeRoleRequest { name, role };
                let ask = async |mut auth: AuthClient<Channel>| {
                    auth.user_revoke_role(request.clone()).await
                };
                let answer = caller.ask(Effect::Write, ask).await?;
                let pb::AuthUserRevokeRoleRequest { name, role } = &request;
                caller.say(format_args!("Role {role} is revoked from user {name}"));
                let header = header_json(answer.header.as_ref());
                Ok(json!({ "header": header, "user": name, "role": role }))
            }
        }
    }
}

impl Role {
    /// Does it.
    pub(super) async fn run(&self, caller: &Caller) -> Result<Value, CtlError> {
        match &self.command {
            RoleCommand::Add { name } => {
                let request = pb::AuthRoleAddRequest { name: name.clone() };
                let ask =
                    async |mut auth: AuthClient<Channel>| auth.role_add(request.clone()).await;
                let answer = caller.ask(Effect::Write, ask).await?;
                caller.say(format_args!("Role {name} created"));
                Ok(json!({ "header": header_json(answer.header.as_ref()), "role": name }))
            }
            RoleCommand::Delete { name } => {
                let request = pb::AuthRoleDeleteRequest { role: name.clone() };
                let ask =
                    async |mut auth: AuthClient<Channel>| auth.role_delete(request.clone()).await;
                let answer = caller.ask(Effect::Write, ask).await?;
                caller.say(format_args!("Role {name} deleted"));
                Ok(json!({ "header": header_json(answer.header.as_ref()), "role": name }))
            }
            RoleCommand::Get { name } => {
                let answer = caller.role(name).await?;
                caller.say_role(name, &answer.perm);
                let permissions = answer.perm.iter().map(permission_json).collect::<Vec<_>>();
                let header = header_json(answer.header.as_ref());
                Ok(json!({ "header": header, "role": name, "permissions": permissions }))
            }
            RoleCommand::List => {
                let request = pb::AuthRoleListRequest {};
                let answer =
                    caller.ask(Effect::Read, async |mut auth| auth.role_list(request).await);
                let pb::AuthRoleListResponse { header, roles } = answer.await?;
                roles.iter().for_each(|role| caller.say(role));
                Ok(json!({ "header": header_json(header.as_ref()), "roles": roles }))
            }
            RoleCommand::GrantPermission { role, access, key, keys } => {
                let KeyRange { key, range_end } = KeyRange::new(key, keys);
                let perm_type = Type::from(*access).into();
                let perm = Permission { perm_type, key: key.into(), range_end: range_end.into() };
                let name = role.clone();
                let request = pb::AuthRoleGrantPermissionRequest { name, perm: Some(perm) };
                let ask = async |mut auth: AuthClient<Channel>| {
                    auth.role_grant_permission(request.clone()).await
                };
                let answer = caller.ask(Effect::Write, ask).await?;
                caller.say(format_args!("Role {role} updated"));
                Ok(json!({ "header": header_json(answer.header.as_ref()), "role": role }))
            }
            RoleCommand::RevokePermission { role, key, keys } => {
                let KeyRange { key, range_end } = KeyRange::new(key, keys);
                let shown = shown_range(&key, &range_end);
                let (key, range_end) = (key.into(), range_end.into());
                let role = role.clone();
                let request = pb::AuthRoleRevokePermissionRequest { role, key, range_end };
                let ask = async |mut auth: AuthClient<Channel>| {
                    auth.role_revoke_permission(request.clone()).await
                };
                let answer = caller.ask(Effect::Write, ask).await?;
                let role = &request.role;
                caller.say(format_args!("Permission of {shown} is revoked from role {role}"));
                Ok(json!({ "header": header_json(answer.header.as_ref()), "role": role }))
            }
        }
    }
}

impl Caller {
    async fn ask<T>(
        &self,
        effect: Effect,
        question: impl AsyncFn(AuthClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, CtlError> {
        let asked = async |channel| question(AuthClient::new(channel)).await;
        Ok(self.call(effect, asked).await?)
    }

    async fn add_user(
        &self,
        name: &str,
        given: Option<&str>,
        no_password: bool,
    ) -> Result<Value, CtlError> {
        let (name, password) = match (name.split_once(':'), given) {
            _ if no_password => (name, String::new()),
            (Some((name, password)), None) => (name, password.to_owned()),
            (_, Some(password)) => (name, password.to_owned()),
            (None, None) => (name, login::new_password(name).map_err(CtlError::Login)?),
        };
        let options = Some(UserAddOptions { no_password });
        let name = name.to_owned();
        let request = pb::AuthUserAddRequest { name, password, options, ..Default::default() };
        let ask = async |mut auth: AuthClient<Channel>| auth.user_add(request.clone()).await;
        let answer = self.ask(Effect::Write, ask).await?;
        let name = &request.name;
        self.say(format_args!("User {name} created"));
        Ok(json!({ "header": header_json(answer.header.as_ref()), "user": name }))
    }

    async fn show_user(&self, name: &str, detail: bool) -> Result<Value, CtlError> {
        let request = pb::AuthUserGetRequest { name: name.to_owned() };
        let ask = async |mut auth: AuthClient<Channel>| auth.user_get(request.clone()).await;
        let pb::AuthUserGetResponse { header, roles } = self.ask(Effect::Read, ask).await?;
        self.say(format_args!("User: {name}"));
        if !detail {
            self.say(format_args!("Roles: {}", roles.join(" ")));
        }
        let mut details = Vec::new();
        for role in roles.iter().filter(|_| detail) {
            let answer = self.role(role).await?;
            self.say("");
            self.say_role(role, &answer.perm);
            let permissions: Vec<Value> = answer.perm.iter().map(permission_json).collect();
            details.push(json!({ "role": role, "permissions": permissions }));
        }
        let mut object =
            json!({ "header": header_json(header.as_ref()), "user": name, "roles": roles });
        if detail {
            object["detail"] = json!(details);
        }
        Ok(object)
    }

    async fn role(&self, name: &str) -> Result<pb::AuthRoleGetResponse, CtlError> {
        let request = pb::AuthRoleGetRequest { role: name.to_owned() };
        let ask = async |mut auth: AuthClient<Channel>| auth.role_get(request.clone()).await;
        self.ask(Effect::Read, ask).await
    }

    fn say_role(&self, name: &str, permissions: &[Permission]) {
        self.say(format_args!("Role {name}"));
        for (title, other) in [("KV Read:", Type::Write), ("KV Write:", Type::Read)] {
            self.say(title);
            for permission in permissions.iter().filter(|it| it.perm_type() != other) {
                let Permission { key, range_end, .. } = permission;
                self.say(format_args!("\t{}", shown_keys(key, range_end)));
            }
        }
    }
}

fn permission_json(permission: &Permission) -> Value {
    let Permission { key, range_end, .. } = permission;
    json!({
        "access": permission.perm_type().as_str_name(),
        "key": String::from_utf8_lossy(key),
        "range_end": String::from_utf8_lossy(range_end),
    })
}

/// The keys of a permission, as etcdctl shows them.
fn shown_keys(key: &[u8], range_end: &[u8]) -> String {
    let shown = String::from_utf8_lossy(key);
    let end = String::from_utf8_lossy(range_end);
    match range_end {
        [] => shown.into_owned(),
        [0] if key == [0] => "[, <open ended>".to_owned(),
        [0] => format!("[{shown}, <open ended>"),
        _ if is_prefix(key, range_end) => format!("[{shown}, {end}) (prefix {shown})"),
        _ => format!("[{shown}, {end})"),
    }
}

fn shown_range(key: &[u8], range_end: &[u8]) -> String {
    match range_end {
        [] => format!("key {}", String::from_utf8_lossy(key)),
        _ => format!("range {}", shown_keys(key, range_end)),
    }
}

/// True if the range holds the keys that begin with `key`.
fn is_prefix(key: &[u8], range_end: &[u8]) -> bool {
    let mut end = key.to_vec();
    while end.last() == Some(&u8::MAX) {
        end.pop();
    }
    let Some(last) = end.last_mut() else { return false };
    *last += 1;
    end == range_end
}

#[cfg(test)]
mod tests {
    use super::{shown_keys, shown_range};

    #[test]
    fn ranges_are_shown_as_by_etcdctl() {
        for (key, end, shown) in [
            ("a", "", "a"),
            ("a", "b", "[a, b) (prefix a)"),
            ("a", "c", "[a, c)"),
            ("a", "\0", "[a, <open ended>"),
            ("\0", "\0", "[, <open ended>"),
        ] {
            assert_eq!(shown_keys(key.as_bytes(), end.as_bytes()), shown);
        }
        assert_eq!(shown_range(b"a", b""), "key a");
    }
}
