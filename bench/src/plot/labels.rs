//! Places of labels, and lines of text.

/// Returns places for labels that want to be at `wanted`, which is sorted. Neighbours
/// keep `distance`, and all stay within `low..=high` if there is room. The sum of the
/// squared displacements is the smallest possible before the bounds apply.
pub(super) fn spread(wanted: &[i32], distance: i32, low: i32, high: i32) -> Vec<i32> {
    // Without their distances, labels that would overlap have places in the wrong
    // order. Such labels form a group, which has the mean of their places.
    let mut groups: Vec<(i32, i32)> = vec![];
    for (index, &place) in (0..).zip(wanted) {
        let mut group = (place - index * distance, 1);
        while let Some(&above) = groups.last() {
            if above.0 * group.1 <= group.0 * above.1 {
                break;
            }
            group = (above.0 + group.0, above.1 + group.1);
            groups.pop();
        }
        groups.push(group);
    }
    let last = high - (wanted.len() as i32 - 1) * distance;
    groups
        .iter()
        .flat_map(|&(sum, count)| (0..count).map(move |_| sum / count))
        .zip(0..)
        .map(|(place, index)| place.min(last).max(low) + index * distance)
        .collect()
}

/// Splits text into lines of at most `columns` characters, at spaces. A number stays on
/// one line with the word after it, such as its unit.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut parts: Vec<String> = vec![];
    let mut after_number = false;
    for word in text.split_whitespace() {
        match parts.last_mut() {
            Some(number) if after_number => *number += &format!(" {word}"),
            _ => parts.push(word.to_owned()),
        }
        after_number = word.parse::<f64>().is_ok();
    }
    let mut lines: Vec<String> = vec![];
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + part.chars().count() <= columns => {
                *line += &format!(" {part}");
            }
            _ => lines.push(part),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distant_labels_stay_in_place() {
        assert_eq!(spread(&[10, 40, 90], 15, 0, 100), [10, 40, 90]);
        assert_eq!(spread(&[], 15, 0, 100), []);
    }

    #[test]
    fn close_labels_move_apart_in_both_directions() {
        assert_eq!(spread(&[50, 50], 20, 0, 100), [40, 60]);
        assert_eq!(spread(&[48, 50, 52, 90], 10, 0, 100), [40, 50, 60, 90]);
    }

    #[test]
    fn labels_never_overlap_or_leave_the_area() {
        // Each number gives other places, from a linear congruential generator.
        let mut number = 1_u32;
        for count in 1..17 {
            for _ in 0..100 {
                let mut wanted: Vec<i32> = (0..count)
                    .map(|_| {
                        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (number >> 16) as i32 % 401
                    })
                    .collect();
                wanted.sort_unstable();
                let places = spread(&wanted, 16, 0, 400);
                let apart = places.windows(2).all(|pair| pair[1] - pair[0] >= 16);
                assert!(apart, "{wanted:?}: {places:?}");
                let inside = places.iter().all(|place| (0..=400).contains(place));
                assert!(inside, "{wanted:?}: {places:?}");
            }
        }
    }

    #[test]
    fn wrap_breaks_at_spaces() {
        assert_eq!(wrap("time in µs is low", 7), ["time in", "µs is", "low"]);
        assert_eq!(wrap("it takes 2 ns", 10), ["it takes", "2 ns"]);
        assert_eq!(wrap("", 7), [""; 0]);
    }
}
