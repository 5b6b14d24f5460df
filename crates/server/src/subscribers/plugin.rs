//! The plugins of subscribers: validated, changed and shown.

use postrider_api::subscriber::{Change, PluginChanges, PluginChoice};
use postrider_core::plugin::{PluginConfig, SelectedPlugin};

use crate::problem::Errors;

const NAME: &str = "plugin.name";
const CONFIG: &str = "plugin.config";

/// The plugin of a new subscriber. `None` after adding an error.
pub(super) fn new(choice: PluginChoice, errors: &mut Errors) -> Option<SelectedPlugin> {
    let PluginChoice { name, config } = choice;
    let name = errors.require(NAME, name).and_then(|name| errors.check(NAME, name.parse()));
    let config = errors.check(CONFIG, PluginConfig::try_from(config.unwrap_or_default()));
    Some(SelectedPlugin { name: name?, config: config? })
}

/// The plugin after a change; `None` after adding an error. Another plugin begins without configuration.
pub(super) fn changed(
    present: Option<&SelectedPlugin>,
    changes: PluginChanges,
    errors: &mut Errors,
) -> Option<SelectedPlugin> {
    let PluginChanges { name, config } = changes;
    let name = match (name, present) {
        (Change::Set(name), _) => errors.check(NAME, name.parse())?,
        (Change::Keep, Some(present)) => present.name.clone(),
        (Change::Keep | Change::Reset, _) => {
            errors.add(NAME, "is required");
            return None;
        }
    };
    let kept = present.filter(|present| present.name == name).map(|present| present.config.clone());
    let config = match config {
        Change::Keep => kept.unwrap_or_default(),
        Change::Reset => PluginConfig::default(),
        Change::Set(changes) => errors.check(CONFIG, kept.unwrap_or_default().merged(changes))?,
    };
    Some(SelectedPlugin { name, config })
}

/// The plugin of a subscriber, as the API shows it.
pub(super) fn shown(plugin: SelectedPlugin) -> PluginChoice {
    PluginChoice { name: Some(plugin.name.into()), config: Some(plugin.config.into()) }
}
