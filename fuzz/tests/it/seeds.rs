//! Inputs that reach deep into each target.

/// The seeds of each target. The target documents the format of its input.
pub(crate) const SEEDS: &[(&str, &[&[u8]])] = &[
    (
        "target_url",
        &[
            b"https://example.com/hook?token=t0p",
            b"http://0x7f.1:8080/",
            b"http://[::ffff:127.0.0.1]/",
            b"http://2130706433/",
            b"http://[fe80::1%25eth0]/",
            "https://Bücher.example./ä?ö".as_bytes(),
            b"http://a.b/|^`{}\"<>\\?|^`{}\"<>'",
            b"http:\\\\a@b#c",
        ],
    ),
    (
        "proxy_url",
        &[b"http://user:p%40ss@proxy.example:3128", b"http://[::1]:3128", b"http://127.1", b"http://a|b/"],
    ),
    (
        "retry_after",
        &[
            b"\0\0\0\0\0\0\0\x00120",
            b"\x68\xd8\xf9\xba\xb6\0\0\0Sun, 06 Nov 1994 08:50:37 GMT",
            b"\0\0\0\0\0\0\0\x80Sunday, 06-Nov-94 08:49:37 GMT",
            b"\xff\xff\xff\xff\xff\xff\xff\x7fSun Nov  6 08:49:37 1994",
            b"1234567899999999999999999999999",
        ],
    ),
    ("event_type", &[b"order.item.added\norder.*", b"a\n*", b"..\n..*", b"a.*\na.*", b"x-_Y.9\nx-_Y.9"]),
    (
        "event_data",
        &[
            b"my-agent\n{\"a\":[1,2.50,1e400,\"\\u0000\\ud800\"],\"a\":{}}",
            b"\"\\\n [ ] ",
            b"a\n[[[[[[{}]]]]]]",
            b"\n{\"\\\"[\":null}",
        ],
    ),
    (
        "script",
        &[
            br#"[503, 503, {"status": 429, "retry_after": 10}, {"delay": "5s"}, "reset", "cut", "redirect", 410, 200]"#,
            br#"{"random": [503, {"ending": "reset", "delay": "2m"}, {"status": 299, "ending": "cut"}], "seed": 18446744073709551615}"#,
            br#"[{"status": 599, "retry_after": 86400, "delay": 119.9995, "ending": "cut"}]"#,
            b"[]",
        ],
    ),
    (
        "schema",
        &[
            b"{\"type\":\"object\",\"required\":[\"id\"],\"properties\":{\"id\":{\"type\":\"string\",\"pattern\":\"^(a+)+$\"}}}\n{\"id\":\"aaab\"}",
            b"{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"items\":{\"anyOf\":[{\"minimum\":1e308},{\"$ref\":\"#/$defs/b\"}]}},\"b\":{\"enum\":[null]}}}\n[1,null,\"x\"]",
            b"{\"$schema\":\"http://json-schema.org/draft-07/schema#\",\"if\":{\"const\":1},\"then\":false,\"uniqueItems\":true}\n[1,1]",
        ],
    ),
    (
        "expression",
        &[
            b"data.n > 1 && event.event_type.startsWith('order.')",
            b"data.list.exists(x, x.n > data.n || has(x.y) && x.y in ['t', 'u'])",
            b"{'data': {'l': data.list.map(x, {'n': x.n}), 'c': event.channels}, 'headers': {'x-a': string(data.n)}}",
            b"has(data.a.y.z) ? data.text.matches('^x+$') : data.a == {'y': 1}\n{\"a\": {\"y\": 1}}",
            b"data['n'] + 1 == 6 || size(data.list) in [1, 2u, 2.0] || type(data.null) == null_type",
        ],
    ),
    (
        "transform",
        &[
            b"{\"steps\":[{\"op\":\"drop\",\"path\":\"/a\"},{\"op\":\"mask\",\"path\":\"/text\",\"keep\":1}]}\n{\"text\":\"abc\"}",
            b"{\"steps\":[{\"op\":\"rename\",\"path\":\"/list/0\",\"to\":\"/a/-\"},{\"op\":\"set\",\"path\":\"/q~1~0\",\"value\":null}]}\n[1]",
            b"{\"project\":\"{'data': data}\"}\n{}",
        ],
    ),
    (
        "format",
        &[
            b"Order {{data.order.id}} of {{agent_id}}: {{data.items.0}}\nthe \"shop\" 100%\n{\"order\":{\"id\":\"<a&b>\"},\"items\":[1.50,null]}",
            b"{{event}} {{id}} {{timestamp}} {{data}}\n\n[1, {\"a\": \"\\u00e9\"}, \"b\"]",
            b"{{data.a\nx\n{\"a\":1,\"a\":2}",
        ],
    ),
("id", &[b"evt_01h455vb4pex5vsknk084sn02q", b"sub_7zzzzzzzzzzzzzzzzzzzzzzzzz", b"dlv_8zzzzzzzzzzzzzzzzzzzzzzzzz"]),
    (
        "secret",
        &[
            b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            b"whsk_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
            b"whsk_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
            b"correct horse battery",
            "s3crét ✓".as_bytes(),
            b"whpk_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
        ],
    ),
    (
        "verifier",
        &[
            b"client-secret\nevt_1\n1700000000\nv1,AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= v2,x\n{}",
            b"whsk_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\nevt_1\n1700000300\nv1a,AAAA\n[]",
            b"whpk_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\na.b\n+1\nv1,\n",
            b"12345678\nevt_1\n1700000000\nsha256=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n{}",
        ],
    ),
    ("keyring", &[b"\x01", b"", // Sealed data with a valid tag.
            b"\x01\xc2\x1e\x73\xbc\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x6c\x06\xcf\x39\x01\x7b\xfa\x87\xa3\xfe\x61\xe5\xf4\x81\xff\x4b\xe5\xa7\x8e\x05\x32\x3f\x3e\x0c\x99\xe4\xc1\xc4\x82",
            b"client-secret", &[1; 60], &[0; 60], b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=,"]),
    (
        "custom_headers",
        &[
            b"Authorization:Bearer 123\nX-Api-Key:a\tb\"\\",
            b"Host:internal",
            b"x_agent_id:me",
            b"x-a:1\nX-A:2",
            b"!#$%&'*+-.^_`|~:v",
        ],
    ),
    ("stored_headers", &[br#"[["x-a","1"],["x-b","\"\\\t"]]"#, br#"[["host","a"]]"#, b"[]", br#"[["X-A",""]]"#]),
    // A module that returns an empty object, and one that only begins like one.
    ("plugin", &[include_bytes!("empty.wasm"), b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"]),
    (
        "policy",
        &[
            br#"{"max_attempts":3,"schedule":["1s",10,"1m 30s"],"ordered":true,"jitter_percent":10}"#,
            br#"{"exponential":{"base":0.1,"factor":2.5,"cap":"24h"},"timeout":"5s","concurrency":7}"#,
            br#"{"rate_limit":{"per_second":0.3,"burst":10}}"#,
            br#"{"timeout":1.0000000001,"rate_limit":{"per_second":9999.999999999999}}"#,
        ],
    ),
    (
        "traceparent",
        &[
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
            b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more",
            b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            b"00-1-1-01",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ],
    ),
];
