fn main() {
    let mode = std::fs::read_to_string("/etc/mode").unwrap_or_default();
    let home = std::env::var("HOME").unwrap_or_default();
    let count = format!("{home}/count");
    let starts: u64 = std::fs::read_to_string(&count).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    if let Err(error) = std::fs::write(&count, (starts + 1).to_string()) {
        println!("cannot count: {error}");
    }
    if std::fs::exists(format!("{home}/fill")).unwrap_or_default() {
        let mut file = std::fs::File::create(format!("{home}/filled")).expect("no file");
        while std::io::Write::write(&mut file, &[0; 4096]).is_ok() {}
        println!("/data is full");
    }
    println!("mode {}", mode.trim());
    if mode.starts_with("crash") {
        std::process::exit(3);
    }
    if mode.starts_with("records") {
        keep_records(&format!("{home}/records"));
    }
    loop {
        std::thread::park();
    }
}

fn keep_records(path: &str) -> ! {
    use std::io::{Read, Seek, SeekFrom, Write};
    let mut file =
        std::fs::OpenOptions::new().create(true).read(true).write(true).open(path).expect("no file");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("no records");
    let valid = |(n, record): &(usize, &[u8])| *record == (*n as u64 + 1).to_le_bytes();
    let mut last = bytes.chunks(8).enumerate().take_while(valid).count() as u64;
    println!("{last} records are there");
    file.set_len(last * 8).and_then(|()| file.seek(SeekFrom::End(0))).expect("no seek");
    loop {
        last += 1;
        file.write_all(&last.to_le_bytes()).and_then(|()| file.sync_data()).expect("not written");
        println!("record {last}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
