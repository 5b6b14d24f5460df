use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deliveries")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: Uuid,
    pub(crate) tenant: String,
    pub(crate) event_id: Option<Uuid>,
    pub(crate) subscriber_id: Uuid,
    pub(crate) event_type: String,
    pub(crate) status: i16,
    pub(crate) attempts: i32,
    pub(crate) round_start: i32,
    pub(crate) job_id: Option<Uuid>,
    pub(crate) next_attempt_at: Option<i64>,
    pub(crate) response_status: Option<i16>,
    pub(crate) error_kind: Option<i16>,
    pub(crate) dead_reason: Option<i16>,
    pub(crate) died_at: Option<i64>,
    pub(crate) created_at: i64,
    pub(crate) ended_at: Option<i64>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
