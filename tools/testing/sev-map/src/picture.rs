// SPDX-License-Identifier: GPL-2.0
//! The picture: a row of pixels for each 2 MiB, a pixel for each page, and a legend below.

use crate::survey::State;
use anyhow::Result;
use embedded_graphics::{
    mono_font::{ascii::FONT_6X13, MonoTextStyle},
    pixelcolor::BinaryColor,
    prelude::*,
    primitives::Rectangle,
    text::{Baseline, Text},
};
use std::{convert::Infallible, fs::File, io::BufWriter};

/// Pages in a row.
const WIDTH: usize = 512;

/// Height of a line of the legend.
const LINE: usize = 20;

/// Width and height of a box in the legend.
const BOX: usize = 12;

/// Colours by number: white and black, then those of the states. They are from the palette of Okabe and
/// Ito, which people tell apart whatever colours they see, and differ in brightness.
const PALETTE: [u8; 18] = [
    0xff, 0xff, 0xff, // paper
    0x00, 0x00, 0x00, // letters
    0x00, 0x72, 0xb2, // blue
    0xf0, 0xe4, 0x42, // yellow
    0xd5, 0x5e, 0x00, // vermilion
    0xc8, 0xc8, 0xc8, // grey
];
const PAPER: u8 = 0;
const LETTERS: u8 = 1;

const fn colour(state: State) -> u8 {
    match state {
        State::Private => 2,
        State::Shared => 3,
        State::Used => 4,
        State::NotMapped => 5,
    }
}

/// Pixels, row by row.
struct Canvas {
    pixels: Vec<u8>,
}

impl Canvas {
    fn set(&mut self, x: usize, y: usize, colour: u8) {
        if let Some(pixel) = self.pixels.get_mut(y * WIDTH + x).filter(|_| x < WIDTH) {
            *pixel = colour;
        }
    }
}

/// For letters: what is on is black.
impl DrawTarget for Canvas {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Infallible>
    where
        I: IntoIterator<Item = Pixel<BinaryColor>>,
    {
        for Pixel(at, colour) in pixels {
            let place = (usize::try_from(at.x), usize::try_from(at.y));
            if let ((Ok(x), Ok(y)), BinaryColor::On) = (place, colour) {
                self.set(x, y, LETTERS);
            }
        }
        Ok(())
    }
}

impl Dimensions for Canvas {
    fn bounding_box(&self) -> Rectangle {
        // CAST: a picture of memory is not that high.
        let size = Size::new(WIDTH as u32, (self.pixels.len() / WIDTH) as u32);
        Rectangle::new(Point::zero(), size)
    }
}

/// Draws the pages with a legend and writes the PNG.
pub(crate) fn write(file: File, states: &[State]) -> Result<()> {
    let rows = states.len().div_ceil(WIDTH);
    let height = rows + LINE * (State::ALL.len() + 2);
    let mut canvas = Canvas {
        pixels: vec![PAPER; WIDTH * height],
    };
    for (pixel, state) in canvas.pixels.iter_mut().zip(states) {
        *pixel = colour(*state);
    }
    let mut y = rows + LINE / 2;
    for state in State::ALL {
        for (x, row) in (0..BOX).flat_map(|x| (0..BOX).map(move |row| (x, row))) {
            canvas.set(LINE / 2 + x, y + row, colour(state));
        }
        let pages = states.iter().filter(|one| **one == state).count();
        let text = format!(
            "{:<16}{pages:>9} pages {:>9.1} MiB",
            state.name(),
            crate::mib(pages)
        );
        letters(&mut canvas, 2 * LINE, y, &text);
        y += LINE;
    }
    letters(
        &mut canvas,
        LINE / 2,
        y,
        "one pixel: a page of 4 KiB; one row: 2 MiB, from address 0 on",
    );

    let mut encoder =
        png::Encoder::new(BufWriter::new(file), WIDTH.try_into()?, height.try_into()?);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(&PALETTE[..]);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&canvas.pixels)?;
    Ok(writer.finish()?)
}

fn letters(canvas: &mut Canvas, x: usize, y: usize, text: &str) {
    // CAST: a picture of memory is not that high.
    let at = Point::new(x as i32, y as i32);
    let style = MonoTextStyle::new(&FONT_6X13, BinaryColor::On);
    match Text::with_baseline(text, at, style, Baseline::Top).draw(canvas) {
        Ok(_) => {}
        Err(never) => match never {},
    }
}
