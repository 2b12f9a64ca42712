//! A URL as a QR code for a terminal, two modules a character.

use std::io;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::ops::log;

/// The code on a terminal; nothing elsewhere. Dark modules are dark whatever the colours of the terminal are.
pub(super) fn text(url: &str) -> String {
    let terminal = io::IsTerminal::is_terminal(&io::stdout());
    if terminal { code(url, log::is_coloured(&io::stdout())) } else { String::new() }
}

fn code(url: &str, coloured: bool) -> String {
    let Ok(code) = QrCode::new(url) else { return String::new() };
    // The pixel `Dark` is drawn, `Light` is left out. Without colours of ours most terminals draw in a light colour.
    let (dark, light) =
        if coloured { (Dense1x2::Dark, Dense1x2::Light) } else { (Dense1x2::Light, Dense1x2::Dark) };
    let image = code.render::<Dense1x2>().dark_color(dark).light_color(light).build();
    let line =
        |line: &str| if coloured { format!("\x1b[30;47m{line}\x1b[0m\n") } else { format!("{line}\n") };
    image.lines().map(line).collect()
}
