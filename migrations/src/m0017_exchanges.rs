//! What attempts sent, where to, and how long their phases took.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0017_exchanges"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, POSTGRES).await
    }
}

/// An exchange as `crates/store/src/packed_exchange.rs` packs it: NULL if no request was built, or if it was erased. And
/// whether the request was sent a second time although the receiver may have processed the first: NULL if not.
const SHARED: &str = "
ALTER TABLE deliveries ADD COLUMN first_exchange {bytes};
ALTER TABLE deliveries ADD COLUMN first_resent boolean;
ALTER TABLE attempts ADD COLUMN exchange {bytes};
ALTER TABLE attempts ADD COLUMN resent boolean;
";

/// The function of `m0015_expiring_payloads`, which removes exchanges as it removes responses.
const POSTGRES: &str = "
CREATE OR REPLACE FUNCTION postrider_stripped_cells(columns text[]) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(CASE
        WHEN name IN ('envelope', 'response_headers', 'response_body', 'first_response', 'exchange', 'first_exchange')
            THEN format('CASE WHEN c.strip_kept THEN c.%I END', name)
        WHEN name = 'payload_gone' THEN 'CASE WHEN c.strip_kept THEN c.payload_gone ELSE coalesce(c.payload_gone, 2) END'
        ELSE format('c.%I', name) END, ', ' ORDER BY place)
    FROM unnest(columns) WITH ORDINALITY AS given (name, place)
$$;
";
