//! The variables of its own environment that the gateway passes on to every server it starts: those that a program
//! needs to work on this machine and reach the network. Any other only if its `env` names it, because it may be a
//! secret that is meant for another server.

use super::secret::Secret;

/// Who and where: the user, the programs, the terminal, the language, the time zone.
const HOME: [&str; 9] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "LANGUAGE", "TZ"];
/// Folders for what is temporary, and those of the XDG base directory specification.
const FOLDERS: [&str; 10] = [
    "TMPDIR",
    "TMP",
    "TEMP",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];
/// The way out. Programs read them in capitals or in small letters.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY"];
/// Certificates to trust, as the usual libraries and tools look for them, and two switches beside them.
const CERTIFICATES: [&str; 13] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "NODE_USE_SYSTEM_CA",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
    "UV_NATIVE_TLS",
    // Node takes the proxy of the environment only if this says so.
    "NODE_USE_ENV_PROXY",
];

/// Whether every server gets this variable.
#[must_use]
pub(crate) fn is_inherited(name: &str) -> bool {
    HOME.contains(&name)
        || FOLDERS.contains(&name)
        || CERTIFICATES.contains(&name)
        || PROXIES.iter().any(|proxy| name == *proxy || name == proxy.to_ascii_lowercase())
        || name.strip_prefix("LC_").is_some_and(|category| category.bytes().all(|b| b.is_ascii_uppercase()))
}

/// The passwords in the addresses of proxies: every server gets them, and no record may show them.
pub(super) fn passwords(env: &dyn Fn(&str) -> Option<String>) -> Vec<Secret> {
    let names = PROXIES.iter().flat_map(|name| [(*name).to_owned(), name.to_ascii_lowercase()]);
    names.filter_map(|name| password(&env(&name)?).map(Secret::new)).collect()
}

fn password(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (login, _) = rest.split('/').next()?.rsplit_once('@')?;
    let (_, password) = login.split_once(':')?;
    Some(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_is_inherited_and_secrets_are_not() {
        for name in
            ["PATH", "LC_ALL", "https_proxy", "NO_PROXY", "NODE_EXTRA_CA_CERTS", "TMPDIR", "XDG_CACHE_HOME"]
        {
            assert!(is_inherited(name), "{name}");
        }
        for name in [
            "JWT_SECRET_KEY",
            "SENTINEL_TOKEN",
            "DATABASE_URL",
            "GITHUB_TOKEN",
            "LC_secret",
            "XDG_SECRET",
            "Https_Proxy",
            "NODE_OPTIONS",
            "LD_PRELOAD",
            "SSH_AUTH_SOCK",
            "",
        ] {
            assert!(!is_inherited(name), "{name}");
        }
    }

    #[test]
    fn a_proxys_password_is_found() {
        assert_eq!(password("http://ann:s3cret@proxy:3128/"), Some("s3cret".to_owned()));
        assert_eq!(password("ann:p@ss@proxy:3128"), Some("p@ss".to_owned()));
        for none in ["http://proxy:3128", "http://ann@proxy", "localhost,.example.org", ""] {
            assert_eq!(password(none), None, "{none}");
        }
    }
}
