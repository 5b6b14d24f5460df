use super::workspace::{Kind, Package, Workspace};

/// A package of this workspace and those that it may depend on. Dev-dependencies are not restricted.
struct Rule {
    package: &'static str,
    may_use: &'static [&'static str],
}

const CORE: &str = "postrider-core";
const API: &str = "postrider-api";
const CONSOLE: &str = "postrider-console";
const PLUGIN: &str = "postrider-plugin";
const CLIENT: &str = "postrider-client";
const DATABASE: &str = "postrider-database";
const FILTER: &str = "postrider-filter";
const SCHEMA: &str = "postrider-schema";
const SHAPE: &str = "postrider-shape";
const QUEUE: &str = "postrider-queue";
const QUEUE_REDIS: &str = "postrider-queue-redis";
const QUEUE_SQS: &str = "postrider-queue-sqs";
const TELEMETRY: &str = "postrider-telemetry";
const STORE: &str = "postrider-store";
const DELIVERY: &str = "postrider-delivery";
const SANDBOX: &str = "postrider-sandbox";
const SETTINGS: &str = "postrider-settings";
const PROGRAM: &str = "postrider-program";
const DISPATCH: &str = "postrider-dispatch";
const WORKER: &str = "postrider-worker";
const SERVER: &str = "postrider-server";
const CLI: &str = "postrider";
const MIGRATIONS: &str = "postrider-migrations";
const KIT: &str = "postrider-testkit";
const STAGE: &str = "postrider-stage";
const CHAOS: &str = "postrider-chaos";
const BENCH: &str = "postrider-bench";

/// Dependencies only point downwards, and the server and the worker do not depend on each other (ARCHITECTURE.md,
/// Crates). Every package has its line.
const RULES: &[Rule] = &[
    Rule { package: CORE, may_use: &[] },
    Rule { package: API, may_use: &[CORE] },
    Rule { package: FILTER, may_use: &[CORE] },
    Rule { package: SCHEMA, may_use: &[] },
    Rule { package: PLUGIN, may_use: &[CORE] },
    Rule { package: "postrider-plugin-sdk", may_use: &[] },
    Rule { package: CLIENT, may_use: &[API, CORE] },
    Rule { package: CONSOLE, may_use: &[API, CORE] },
    Rule { package: DATABASE, may_use: &[] },
    Rule { package: TELEMETRY, may_use: &[] },
    Rule { package: MIGRATIONS, may_use: &[] },
    Rule { package: QUEUE, may_use: &[DATABASE] },
    Rule { package: QUEUE_REDIS, may_use: &[QUEUE] },
    Rule { package: QUEUE_SQS, may_use: &[QUEUE] },
    Rule { package: STORE, may_use: &[CORE, DATABASE, QUEUE] },
    Rule { package: DELIVERY, may_use: &[CORE] },
    Rule { package: SANDBOX, may_use: &[CORE, DELIVERY, STORE] },
    Rule { package: SETTINGS, may_use: &[CORE, DELIVERY, TELEMETRY] },
    Rule {
        package: PROGRAM,
        may_use: &[CORE, DATABASE, MIGRATIONS, QUEUE, QUEUE_REDIS, QUEUE_SQS, SETTINGS, STORE, TELEMETRY],
    },
    Rule { package: DISPATCH, may_use: &[CORE, FILTER, DATABASE, QUEUE, STORE, TELEMETRY] },
    Rule { package: SHAPE, may_use: &[CORE, FILTER, PLUGIN, STORE] },
    Rule {
        package: WORKER,
        may_use: &[
            CORE, FILTER, SHAPE, DATABASE, QUEUE, TELEMETRY, STORE, DELIVERY, SANDBOX, SETTINGS, DISPATCH,
            PROGRAM,
        ],
    },
    Rule {
        package: SERVER,
        may_use: &[
            API, CONSOLE, CORE, FILTER, PLUGIN, SCHEMA, SHAPE, DATABASE, QUEUE, TELEMETRY, STORE, DELIVERY,
            SANDBOX, SETTINGS, DISPATCH, PROGRAM,
        ],
    },
    Rule {
        package: CLI,
        may_use: &[
            API, CORE, DATABASE, QUEUE, TELEMETRY, STORE, DELIVERY, SETTINGS, DISPATCH, WORKER, SERVER,
            MIGRATIONS, PROGRAM, PLUGIN, CLIENT,
        ],
    },
    Rule { package: "postrider-testing", may_use: &[API, CLIENT, CORE] },
    Rule { package: KIT, may_use: &[API, MIGRATIONS] },
    Rule { package: STAGE, may_use: &[CORE, DATABASE, QUEUE, STORE, KIT] },
    Rule { package: "postrider-blackbox", may_use: &[CORE, MIGRATIONS, KIT] },
    Rule { package: "postrider-fuzz", may_use: &[CORE, FILTER, DELIVERY, PLUGIN, SCHEMA, TELEMETRY] },
    Rule { package: "xtask", may_use: &[] },
    Rule { package: CHAOS, may_use: &[CORE, KIT, MIGRATIONS, "xtask"] },
    Rule { package: BENCH, may_use: &[KIT, "xtask"] },
];

/// The packages that may name SeaORM. No other one should have to change with the database library.
const SEA_ORM_USERS: &[&str] =
    &[DATABASE, QUEUE, STORE, DISPATCH, MIGRATIONS, KIT, STAGE, "postrider-blackbox", CHAOS, BENCH];

pub(super) fn violations(workspace: &Workspace) -> Vec<String> {
    workspace.packages.iter().flat_map(|package| of_package(package, workspace)).collect()
}

fn of_package(package: &Package, workspace: &Workspace) -> Vec<String> {
    let name = &package.name;
    let Some(rule) = RULES.iter().find(|rule| rule.package == name) else {
        return vec![format!(
            "{name} has no line in the table of allowed dependencies (xtask/src/lint/arrows.rs)"
        )];
    };
    let mut found = Vec::new();
    for dependency in package.dependencies.iter().filter(|dependency| dependency.kind != Kind::Dev) {
        let target = dependency.package.as_str();
        let is_ours = workspace.packages.iter().any(|package| package.name == target);
        if is_ours && !rule.may_use.contains(&target) {
            found.push(format!(
                "{name} must not depend on {target}: dependencies only point downwards (ARCHITECTURE.md, Crates; \
                 the table is in xtask/src/lint/arrows.rs)"
            ));
        }
        if (target == "sea-orm" || target.starts_with("sea-orm-")) && !SEA_ORM_USERS.contains(&name.as_str())
        {
            found.push(format!("{name} must not name {target}: only these may: {SEA_ORM_USERS:?}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{
        super::workspace::{Dependency, Manifest},
        *,
    };

    fn workspace(arrows: &[(&str, &[(&str, Kind)])]) -> Workspace {
        let mut packages: Vec<Package> = Vec::new();
        for (name, dependencies) in arrows {
            packages.push(Package {
                name: (*name).to_owned(),
                folder: "".into(),
                targets: Vec::new(),
                is_published: true,
                manifest: Manifest::default(),
                dependencies: dependencies
                    .iter()
                    .map(|(package, kind)| Dependency {
                        package: (*package).to_owned(),
                        rename: None,
                        kind: *kind,
                        is_path: true,
                        requirement: "*".to_owned(),
                    })
                    .collect(),
                unused_ok: Vec::new(),
            });
        }
        Workspace { packages }
    }

    #[test]
    fn downward_dependencies_and_dev_dependencies_are_allowed() {
        let workspace = workspace(&[
            (CORE, &[("serde", Kind::Normal), (KIT, Kind::Dev), ("sea-orm", Kind::Dev)]),
            (STORE, &[(CORE, Kind::Normal), ("sea-orm", Kind::Normal)]),
            (SERVER, &[(STORE, Kind::Normal), (WORKER, Kind::Dev)]),
            (WORKER, &[]),
            (KIT, &[("sea-orm", Kind::Normal)]),
        ]);
        assert_eq!(violations(&workspace), Vec::<String>::new());
    }

    #[test]
    fn an_upward_or_sideways_dependency_is_found() {
        let workspace = workspace(&[
            (CORE, &[(STORE, Kind::Normal)]),
            (STORE, &[]),
            (DELIVERY, &[(TELEMETRY, Kind::Build)]),
            (TELEMETRY, &[]),
            (SERVER, &[(WORKER, Kind::Normal)]),
            (WORKER, &[]),
        ]);
        let found = violations(&workspace);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("postrider-core must not depend on postrider-store"), "{}", found[0]);
    }

    #[test]
    fn only_the_listed_packages_may_name_sea_orm() {
        let workspace = workspace(&[(SERVER, &[("sea-orm-migration", Kind::Normal)])]);
        assert_eq!(violations(&workspace).len(), 1);
    }

    #[test]
    fn a_package_without_a_rule_is_found() {
        assert_eq!(violations(&workspace(&[("postrider-new", &[])])).len(), 1);
    }

    #[test]
    fn this_workspace_follows_the_rules() {
        let workspace = Workspace::of(&crate::cargo::workspace_root()).expect("the workspace's metadata");
        assert_eq!(violations(&workspace), Vec::<String>::new());
    }

    #[test]
    fn a_rule_only_names_packages_with_earlier_rules() {
        for (index, rule) in RULES.iter().enumerate() {
            for target in rule.may_use {
                assert!(
                    RULES[..index].iter().any(|earlier| earlier.package == *target),
                    "{} -> {target}",
                    rule.package
                );
            }
        }
    }
}
