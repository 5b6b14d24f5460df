use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "subscribers")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: Uuid,
    pub(crate) tenant: String,
    pub(crate) url: String,
    pub(crate) description: String,
    pub(crate) secret: Vec<u8>,
    pub(crate) previous_secret: Option<Vec<u8>>,
    pub(crate) previous_secret_until: Option<i64>,
    pub(crate) older_secrets: Option<Vec<u8>>,
    pub(crate) older_secrets_until: Option<i64>,
    pub(crate) headers: Option<Vec<u8>>,
    pub(crate) policy: String,
    pub(crate) format: Option<String>,
    pub(crate) active: bool,
    pub(crate) deactivated_at: Option<i64>,
    pub(crate) deactivation_reason: Option<i16>,
    pub(crate) paused_at: Option<i64>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) uid: Option<String>,
    pub(crate) metadata: Option<String>,
    pub(crate) channels: Option<String>,
    pub(crate) filter: Option<String>,
    pub(crate) filter_id: Option<Uuid>,
    pub(crate) transform: Option<String>,
    pub(crate) auth: Option<Vec<u8>>,
    pub(crate) auth_expires_at: Option<i64>,
    pub(crate) auth_warn_at: Option<i64>,
    pub(crate) notify_url: Option<String>,
    pub(crate) notify_email: Option<String>,
    pub(crate) plugin: Option<String>,
    pub(crate) plugin_name: Option<String>,
    pub(crate) matching_since_at: Option<i64>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
