use super::*;

fn variables() -> Variables {
    [
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("KOREAN", "한국어"),
        ("NULL", ""),
        ("foo", "a/b/c.tar.gz"),
        ("star", "a*b"),
        ("two", "x y"),
        ("long", "aXbXc"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into()
}

#[test]
fn words_of_every_form() {
    let table: &[(&str, &str)] = &[
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he'llo", "!"),
        ("he\\'llo", "he'llo"),
        ("he\\\\'llo", "!"),
        ("abc\\tdef", "abctdef"),
        ("\"abc\\tdef\"", "abc\\tdef"),
        ("\"abc\\\\tdef\"", "abc\\tdef"),
        ("'abc\\tdef'", "abc\\tdef"),
        ("hello\\", "hello"),
        ("hello\\\\", "hello\\"),
        ("\"hello", "!"),
        ("\"hello\\\"", "!"),
        ("\"hel'lo\"", "hel'lo"),
        ("'hello\\'", "hello\\"),
        ("'hello\\there'", "hello\\there"),
        ("'hello\\\\there'", "hello\\\\there"),
        ("\"''\"", "''"),
        ("$.", "$."),
        ("he$1x", "hex"),
        ("he$.x", "he$.x"),
        ("he$pwd.", "he."),
        ("he$PWD", "he/home"),
        ("he\\$PWD", "he$PWD"),
        ("he\\\\$PWD", "he\\/home"),
        ("\"he\\$PWD\"", "he$PWD"),
        ("\"he\\\\$PWD\"", "he\\/home"),
        ("\"$PWD\"", "/home"),
        ("'$PWD'", "$PWD"),
        ("he${}", "!"),
        ("he${}xx", "!"),
        ("he${1}", "he"),
        ("he${1}xx", "hexx"),
        ("he${PWD}", "he/home"),
        ("he${PWD", "!"),
        ("he${hi:)", "!"),
        ("he${PWD:-000}xx", "he/homexx"),
        ("he${XX:-000}xx", "he000xx"),
        ("he${XX:-${PWD}}xx", "he/homexx"),
        ("he${XX:-${PWD:+bar}}xx", "hebarxx"),
        ("he${NULL:-000}", "he000"),
        ("he${NULL-000}", "he"),
        ("he${XX-000}", "he000"),
        ("he${NULL:+000}", "he"),
        ("he${NULL+000}", "he000"),
        ("he${XX+000}", "he"),
        ("he${PWD:?no}", "he/home"),
        ("he${XX:?no}", "!"),
        ("he${NULL:?}", "!"),
        ("he${NULL?x}", "he"),
        ("${XX:-'single \"quoted\"'}", "single \"quoted\""),
        ("${XX:-\"double } quoted\"}", "double } quoted"),
        ("he${PWD:", "!"),
        ("he${PWD:#x}", "!"),
        ("he${PWD:%x}", "!"),
        ("he${PWD!x}", "!"),
        ("${{aaa}", "!"),
        ("${aaa", "!"),
        ("$KOREAN", "한국어"),
        ("안녕$PWD", "안녕/home"),
        ("한글\"$KOREAN\"", "한글한국어"),
        ("${foo#*/}", "b/c.tar.gz"),
        ("${foo##*/}", "c.tar.gz"),
        ("${foo%.*}", "a/b/c.tar"),
        ("${foo%%.*}", "a/b/c"),
        ("${foo#?}", "/b/c.tar.gz"),
        ("${foo#nothing}", "a/b/c.tar.gz"),
        ("${foo%${SHELL}}", "a/b/c.tar.gz"),
        ("${foo/b/B}", "a/B/c.tar.gz"),
        ("${foo//a/A}", "A/b/c.tAr.gz"),
        ("${foo/\\//-}", "a-b/c.tar.gz"),
        ("${foo//\\//-}", "a-b-c.tar.gz"),
        ("${foo/*/x}", "x"),
        ("${star/\\*/-}", "a-b"),
        ("${star#a\\*}", "b"),
        ("${long/X/$SHELL}", "abashbXc"),
        ("${foo/b}", "!"),
        ("${nothing#x}", ""),
        ("$#$@$*$?$-$!$$", ""),
    ];
    let expander = Expander::new('\\');
    for (source, expected) in table {
        match expander.word(source, &variables()) {
            Ok(word) => assert_eq!(&word, expected, "{source}"),
            Err(error) => assert_eq!(&"!", expected, "{source}: {error}"),
        }
    }
}

#[test]
fn splitting_comes_after_expansion() {
    let table: &[(&str, &[&str])] = &[
        ("80 443", &["80", "443"]),
        ("$two", &["x", "y"]),
        ("\"$two\"", &["x y"]),
        ("a$two", &["ax", "y"]),
        ("'a b'c d", &["a bc", "d"]),
        ("a\\ b c", &["a b", "c"]),
        ("  a  ", &["a"]),
        ("$nothing", &[]),
    ];
    for (source, expected) in table {
        let words = Expander::new('\\').words(source, &variables()).unwrap();
        assert_eq!(&words, expected, "{source}");
    }
}

#[test]
fn the_other_escape_character() {
    let expander = Expander::new('`');
    assert_eq!(
        expander.word("c:\\dir`$x", &variables()).unwrap(),
        "c:\\dir$x"
    );
    assert_eq!(
        expander.word("\"c:\\`\"\"", &variables()).unwrap(),
        "c:\\\""
    );
}

#[test]
fn errors_name_the_word() {
    let expander = Expander::new('\\');
    assert_eq!(
        expander
            .word("${x:?must \\\"be}", &variables())
            .unwrap_err()
            .to_string(),
        "failed to process \"${x:?must \\\\\\\"be}\": x: must \"be"
    );
    assert_eq!(
        expander.word("a'b", &variables()).unwrap_err().to_string(),
        "failed to process \"a'b\": unexpected end of statement while looking for matching single-quote"
    );
    let deep = "${x:-".repeat(10_000);
    assert!(expander.word(&deep, &variables()).is_err());
}

#[test]
fn here_documents_keep_their_quotes() {
    let expander = Expander::new('\\');
    assert_eq!(
        expander
            .heredoc("it's \"$PWD\" \\$x", &variables())
            .unwrap(),
        "it's \"/home\" $x"
    );
}
