//! Compiled projections.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use postrider_core::{Expression, ExpressionId};
use postrider_filter::{Projection, Rejected};

/// How many are kept. When there are too many all are forgotten; those in use soon return.
const MAX: usize = 2_000;

pub(crate) type Compiled = Arc<Result<Projection, Rejected>>;

#[derive(Clone, Default)]
pub(crate) struct Projections(Arc<Mutex<HashMap<ExpressionId, Compiled>>>);

impl Projections {
    /// Compiles an expression, unless that was done before.
    pub(crate) fn get(&self, expression: &Expression) -> Compiled {
        let id = expression.id();
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Arc::clone(known);
        }
        let compiled = Arc::new(Projection::compile(expression));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX {
            known.clear();
        }
        known.insert(id, Arc::clone(&compiled));
        compiled
    }
}

impl fmt::Debug for Projections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projections").finish_non_exhaustive()
    }
}
