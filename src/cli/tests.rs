use super::arguments::{parse_mode, parse_socket_path};
use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = line.split_whitespace().map(OsString::from);
    Cli::try_parse_from(with_default_command(words))
}

#[test]
fn the_flags_of_the_go_plugin_alone_serve() {
    for line in [
        "barbican-kms-plugin --socketpath=/kms/kms.sock --cloud-config=/etc/config/cloud.conf",
        "barbican-kms-plugin --socketpath /kms/kms.sock --cloud-config /etc/config/cloud.conf",
        "barbican-kms /bin/barbican-kms-plugin --socketpath=/s --cloud-config=/c",
        "barbican-kms-plugin --socketpath /s --cloud-config /c -v=5",
        "barbican-kms-plugin --v=2 --logtostderr --socketpath /s --cloud-config /c",
        "barbican-kms-plugin --logtostderr=true --socketpath /s --cloud-config /c",
        "barbican-kms-plugin --log-flush-frequency=5s --vmodule=a=1 --socketpath /s --cloud-config /c",
        "barbican-kms-plugin --log_flush_frequency 5s --socketpath /s --cloud_config /c",
        "barbican-kms-plugin --skip_headers --log_dir=/x --one-output=false --log_file /y \
         --log-file-max-size 1 --add_dir_header --skip-log-headers=true \
         --log-backtrace-at=a.go:1 --stderrthreshold=2 --alsologtostderr --socketpath /s \
         --cloud-config /c",
        "barbican-kms-plugin --socketpath /a --socketpath /s --cloud-config /c -v 2 -v=5",
        "barbican-kms-plugin --socketpath unix:///s --cloud-config /c",
        "barbican-kms serve --socketpath /s --cloud-config=/c --socket-mode 0660",
    ] {
        let cli = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let Command::Serve(serve) = cli.command else {
            panic!("{line} does not serve")
        };
        let path = serve.socketpath;
        assert!(
            path.starts_with("/s") || path.starts_with("/kms"),
            "{line}: {path:?}"
        );
    }
}

#[test]
fn a_socket_is_a_path_or_its_url() {
    let path = |text: &str| parse_socket_path(text.into());
    for text in [
        "/run/kms.sock",
        "unix:///run/kms.sock",
        "unix:/run/kms.sock",
    ] {
        assert_eq!(path(text), Ok("/run/kms.sock".into()), "{text}");
    }
    assert_eq!(path("kms.sock"), Ok("kms.sock".into()));
    for (text, expected) in [
        ("@kms", "is an abstract socket"),
        ("unix:///@kms", "three slashes"),
        ("unix://run/kms.sock", "three slashes"),
        ("unix:", "three slashes"),
    ] {
        let refusal = path(text).expect_err(text);
        assert!(refusal.contains(expected), "{text}: {refusal}");
    }
}

#[test]
fn a_missing_flag_is_named() {
    let error = parse("barbican-kms --socketpath /s").expect_err("no cloud-config");
    assert!(error.to_string().contains("--cloud-config"), "{error}");
}

#[test]
fn a_mode_is_octal() {
    assert_eq!(parse_mode("0660"), Ok(0o660));
    for wrong in ["", "0800", "1777", "rw", "-1"] {
        assert!(parse_mode(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_definition_is_consistent() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
}
