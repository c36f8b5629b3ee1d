//! The plugin configurations of the proxies that policies are for: what those would refuse is not pushed.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use mulkko::configuration::Configuration;

/// Where the policies of this server are, as a plugin's `source` says it.
const PLACE: &str = "/v1/policies/";

/// Files of plugin configurations, read anew at each push.
#[derive(Clone, Debug, Default)]
pub struct Plugins(Vec<PathBuf>);

impl Plugins {
    /// Those of some files.
    ///
    /// # Errors
    /// When one cannot be read, or is refused.
    pub fn open(files: Vec<PathBuf>) -> Result<Plugins> {
        let plugins = Plugins(files);
        plugins.read().map(|_| plugins)
    }

    /// Those that the policy `name` is for.
    ///
    /// # Errors
    /// When a file cannot be read, or is refused by now.
    pub fn of(&self, name: &str) -> Result<Vec<Configuration>> {
        let all = self.read()?;
        Ok(all.into_iter().filter(|plugin| is_for(plugin, name)).collect())
    }

    fn read(&self) -> Result<Vec<Configuration>> {
        let read = self.0.iter().map(|file| {
            let place = || file.display().to_string();
            let text = std::fs::read(file).with_context(place)?;
            Configuration::parse(&text).map_err(|found| {
                let first = found.first().map(ToString::to_string).unwrap_or_default();
                anyhow!("{}: {first}", place())
            })
        });
        read.collect()
    }
}

/// Whether a plugin takes the policy `name`: the one that it fetches here, else the one of its own name; one that says
/// neither may take any.
fn is_for(plugin: &Configuration, name: &str) -> bool {
    let path = plugin.source.as_ref().and_then(|source| source.path.split('?').next());
    match path.and_then(|path| path.rsplit_once(PLACE)) {
        Some((_, fetched)) => fetched == name,
        None => *plugin.name == *name || *plugin.name == *Configuration::default().name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_for_the_policy_that_it_fetches_or_is_called_like() {
        for (plugin, policy, expected) in [
            ("{}", "shop", true),
            (r#"{"name": "shop"}"#, "shop", true),
            (r#"{"name": "shop"}"#, "cart", false),
            (r#"{"name": "edge", "source": {"cluster": "c", "path": "/v1/policies/shop"}}"#, "shop", true),
            (r#"{"name": "edge", "source": {"cluster": "c", "path": "/v1/policies/shop"}}"#, "edge", false),
            (r#"{"source": {"cluster": "c", "path": "/a/v1/policies/shop?x=1"}}"#, "cart", false),
            (r#"{"name": "shop", "source": {"cluster": "c", "path": "/shop.json"}}"#, "shop", true),
        ] {
            let plugin = Configuration::parse(plugin.as_bytes()).unwrap();
            assert_eq!(is_for(&plugin, policy), expected, "{plugin:?} {policy}");
        }
    }
}
