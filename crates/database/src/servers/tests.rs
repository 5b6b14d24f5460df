use proptest::prelude::*;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::Wanted;
use crate::{DatabaseUrl, DatabaseUrlError};

fn parsed(text: &str) -> (DatabaseUrl, Vec<PgConnectOptions>) {
    let url: DatabaseUrl = text.parse().unwrap();
    let options = url.servers().unwrap().options().unwrap();
    (url, options)
}

fn hosts(text: &str) -> Vec<(String, u16)> {
    parsed(text).1.iter().map(|options| (options.get_host().to_owned(), options.get_port())).collect()
}

#[test]
fn every_part_of_a_url_arrives() {
    let (url, options) =
        parsed("postgres://m%40e:p%2Fw@db:6432/na%20me?sslmode=require&options=-c%20jit%3Doff");
    let [options] = options.as_slice() else { panic!("one host") };
    assert_eq!((options.get_host(), options.get_port()), ("db", 6432));
    assert_eq!((options.get_username(), options.get_database()), ("m@e", Some("na me")));
    assert!(matches!(options.get_ssl_mode(), PgSslMode::Require));
    assert_eq!(options.get_options(), Some("-c jit=off"));
    assert_eq!(url.to_string(), "postgres://db:6432/na me");
    // The same as parameters, as libpq reads them.
    let (_, options) = parsed("postgresql:///?host=db&port=6432&user=m%40e&dbname=na+me");
    assert_eq!((options[0].get_host(), options[0].get_port()), ("db", 6432));
    assert_eq!((options[0].get_username(), options[0].get_database()), ("m@e", Some("na me")));
}

#[test]
fn an_ipv6_address_stands_in_brackets() {
    assert_eq!(hosts("postgres://me:pw@[::1]:5433/x"), [("::1".into(), 5433)]);
    assert_eq!(hosts("postgres://me@[fe80::1%25eth0]/x?port=7"), [("fe80::1%eth0".into(), 7)]);
    assert_eq!(hosts("postgres:///x?host=[::1]&port=5433"), [("::1".into(), 5433)]);
    assert_eq!(
        "postgres://[::1]:5433/x".parse::<DatabaseUrl>().unwrap().to_string(),
        "postgres://[::1]:5433/x"
    );
    for wrong in
        ["postgres://[::1/x", "postgres://[nonsense]/x", "postgres://[::1]5432/x", "postgres://::1/x"]
    {
        assert_eq!(wrong.parse::<DatabaseUrl>(), Err(DatabaseUrlError::Authority), "{wrong}");
    }
}

#[test]
fn several_hosts_keep_their_order_and_ports() {
    let named = hosts("postgres://me:pw@one:1,[::2]:2,three/x?target_session_attrs=read-write&port=7");
    assert_eq!(named, [("one".into(), 7), ("::2".into(), 7), ("three".into(), 7)]);
    assert_eq!(hosts("postgres://one:1,two:2/x"), [("one".into(), 1), ("two".into(), 2)]);
    assert_eq!(hosts("postgres:///x?host=one,two&port=1,2"), [("one".into(), 1), ("two".into(), 2)]);
    assert_eq!("postgres://one,two/x?port=1,2,3".parse::<DatabaseUrl>(), Err(DatabaseUrlError::Ports));
}

#[test]
fn of_several_hosts_the_writable_one_is_wanted() {
    let wanted = |text: &str| text.parse::<DatabaseUrl>().unwrap().servers().unwrap().wanted;
    assert_eq!(wanted("postgres://one/x"), Wanted::Any);
    assert_eq!(wanted("postgres://one,two/x"), Wanted::Writable);
    assert_eq!(wanted("postgres:///x?host=one,two"), Wanted::Writable);
    assert_eq!(wanted("postgres://one,two/x?target_session_attrs=any"), Wanted::Any);
    assert_eq!(wanted("postgres://one/x?target_session_attrs=primary"), Wanted::Primary);
    let error = "postgres://one/x?target_session_attrs=standby".parse::<DatabaseUrl>().unwrap_err();
    assert!(error.to_string().contains("read-write, primary or any"), "{error}");
}

#[test]
fn the_roots_of_the_system_verify_the_name_too() {
    let url = "postgres://db/x?sslmode=require&sslrootcert=system".parse::<DatabaseUrl>().unwrap();
    match url.servers().unwrap().options() {
        Ok(options) => assert!(matches!(options[0].get_ssl_mode(), PgSslMode::VerifyFull)),
        // A machine without any.
        Err(error) => assert!(error.to_string().contains("sslrootcert=system"), "{error}"),
    }
}

#[test]
fn a_socket_is_named_by_its_folder() {
    let (url, options) = parsed("postgres://me@%2Frun%2Fpostgresql/x");
    assert_eq!(
        options[0].get_socket().map(std::path::PathBuf::as_path),
        Some(std::path::Path::new("/run/postgresql"))
    );
    assert_eq!(url.to_string(), "postgres://%2Frun%2Fpostgresql/x");
}

#[test]
fn what_is_wrong_is_named_without_its_value() {
    for (wrong, part) in [
        ("hunter2", "starts with postgres://"),
        ("mysql://me:hunter2@db/x", "starts with postgres://"),
        ("postgres:me:hunter2@db/x", "starts with postgres://"),
        ("postgres://me:hunter2/db@x/y", "%2F"),
        ("postgres://me:12/hunter2@db/x", "%2F"),
        ("postgres://me:hunter2", "%40"),
        ("postgres://me:12?hunter2@db/x", "name=value"),
        ("postgres://db/x?sslmode=hunter2", "verify-full"),
        ("postgres://db/x?port=hunter2", "65535"),
        ("postgres://db/x?hostaddr=hunter2", "an IP address"),
        ("postgres://me:%ff@db/x", "UTF-8"),
    ] {
        let error = wrong.parse::<DatabaseUrl>().unwrap_err();
        assert!(error.to_string().contains(part), "{wrong}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

proptest! {
    /// Whatever a password consists of, and wherever it stands, nothing prints it.
    #[test]
    fn a_password_is_never_printed(
        rest in "[ -~]{0,12}", before in "[a-z:@/?%#,\\[\\]=&+ -]{0,6}", after in "[a-z:@/?%#,\\[\\]=&0-9 -]{0,8}",
        scheme in "(postgres|postgresql|sqlite3|mysql)", place in 0..5_u8,
    ) {
        let password = format!("hunter2{rest}");
        let text = match place {
            0 => format!("{scheme}://me{before}:{password}@db{after}/x"),
            1 => format!("{scheme}://me:{password}@db:5432/x{after}"),
            2 => format!("{scheme}://db/x?user=me&password={password}{after}"),
            3 => format!("{scheme}://db/x?passwort={password}&{before}"),
            _ => format!("{scheme}:me:{password}@{after}"),
        };
        let shown = match text.parse::<DatabaseUrl>() {
            Ok(url) => {
                let options = url.servers().map(|servers| servers.options().map(drop).map_err(|error| error.to_string()));
                format!("{url} {url:?} {options:?}")
            }
            Err(error) => format!("{error} {error:?}"),
        };
        prop_assert!(!shown.contains("hunter2"), "{text}: {shown}");
    }
}
