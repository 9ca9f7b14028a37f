use super::*;

/// A closed log of several groups, in as many segments as `options` make of them.
fn several(options: Options) -> (FaultyFs, BTreeMap<u64, Record>) {
    let fs = disk();
    let rig = Rig::open(&fs, options);
    let mut written = Vec::new();
    for (seed, sizes) in [(1, &[20][..]), (2, &[15, 5]), (3, &[30]), (4, &[10]), (5, &[25])] {
        let told = rig.try_append(entry(seed, sizes)).unwrap();
        written.extend(records_of(&entry(seed, sizes), told.commit.first_offset));
    }
    (fs, by_offset(written))
}

/// Like [`several`], with a second segment behind.
fn sealed() -> (FaultyFs, BTreeMap<u64, Record>) {
    let (fs, mut written) = several(SMALL);
    let rig = Rig::open(&fs, SMALL);
    for (seed, size) in [(6, 500), (7, 100)] {
        written.extend(by_offset(records_of(&entry(seed, &[size]), rig.append(seed, size))));
    }
    let bases: Vec<u64> = rig.log.segments().iter().map(|segment| segment.base).collect();
    assert_eq!(bases, [0, 7]);
    (fs, written)
}

/// The records whose bytes a bit of the first segment is among, by counting.
fn hit(written: &BTreeMap<u64, Record>, bit: u64) -> Option<u64> {
    let mut at = 128;
    written.values().find_map(|record| {
        let from = at;
        at += 40 + record.payload.len() as u64;
        (from..at).contains(&(bit / 8)).then_some(record.offset)
    })
}

fn bits(fs: &FaultyFs, path: &Path) -> u64 {
    fs.read_raw(path).unwrap().len() as u64 * 8
}

fn copy(fs: &FaultyFs) -> FaultyFs {
    fs.crash(crate::fs::faulty::Crash::Everything)
}

#[test]
fn a_flipped_bit_in_a_sealed_segment_costs_the_record_it_hits_and_is_reported() {
    let (fs, written) = sealed();
    for with_index in [true, false] {
        // Every bit without an index; with one, opening does not look, so every seventh will do.
        for bit in (0..bits(&fs, &segment(0))).step_by(if with_index { 7 } else { 1 }) {
            let bad = copy(&fs);
            bad.corrupt(&segment(0), bit);
            if !with_index {
                bad.write_raw(&index(0), b"");
            }
            let rig = Rig::open(&bad, SMALL);
            let mut expected = written.clone();
            let lost = hit(&written, bit).and_then(|offset| expected.remove(&offset));
            assert_eq!(by_offset(rig.records()), expected, "bit {bit}");
            let damage = rig.log.damage();
            assert_eq!(damage.len(), usize::from(lost.is_some()), "bit {bit}: {damage:?}");
            let Some(lost) = lost else { continue };
            assert_eq!(damage[0].file, segment(0));
            assert!(
                (damage[0].position..damage[0].position + damage[0].bytes).contains(&(bit / 8))
            );
            if !with_index {
                assert_eq!(damage[0].offsets, lost.offset..lost.offset + 1, "bit {bit}");
                assert_eq!(rig.recovery.damaged, damage);
            }
            assert_eq!(rig.log.get(&[lost.offset]).unwrap(), [None], "bit {bit}");
            assert_eq!(rig.append(9, 9), 8, "bit {bit}");
        }
    }
}

#[test]
fn a_flipped_bit_in_the_newest_segment_costs_one_entry_at_most() {
    let (fs, written) = several(ONE);
    let newest = *written.last_key_value().unwrap().0;
    for bit in 0..bits(&fs, &segment(0)) {
        let bad = copy(&fs);
        bad.corrupt(&segment(0), bit);
        let rig = Rig::open(&bad, ONE);
        let mut expected = written.clone();
        let lost = hit(&written, bit).and_then(|offset| expected.remove(&offset));
        assert_eq!(check_agrees(&rig), expected, "bit {bit}");
        let told = match lost {
            // The newest group may have been torn: nothing tells it from damage.
            Some(lost) if lost.offset == newest => (0, 1),
            Some(_) => (1, 0),
            None => (0, 0),
        };
        let recovery = &rig.recovery;
        assert_eq!((recovery.damaged.len(), recovery.torn.len()), told, "bit {bit}: {recovery:?}");
        assert!(rig.append(9, 9) > newest);
    }
}

#[test]
fn a_lost_record_of_an_acknowledged_entry_leaves_its_others() {
    let (fs, written) = several(ONE);
    let bad = copy(&fs);
    // The first of the two records of the second entry begins behind the header and one record of 60 bytes.
    bad.corrupt(&segment(0), (128 + 60 + 41) * 8);
    let rig = Rig::open(&bad, ONE);
    let expected: Vec<u64> = written.keys().copied().filter(|offset| *offset != 1).collect();
    assert_eq!(rig.offsets(), expected);
}

#[test]
fn damage_to_many_records_is_told_with_all_their_offsets() {
    let (fs, written) = sealed();
    let bad = copy(&fs);
    let mut bytes = bad.read_raw(&segment(0)).unwrap();
    bytes[128 + 30..128 + 200].fill(0xaa);
    bad.write_raw(&segment(0), &bytes);
    bad.write_raw(&index(0), b"");
    let rig = Rig::open(&bad, SMALL);
    assert_eq!(rig.offsets(), [4, 5, 6, 7]);
    assert_eq!(rig.recovery.damaged.len(), 1, "{:?}", rig.recovery);
    assert_eq!(rig.recovery.damaged[0].offsets, 0..4);
    assert_eq!(written.len(), 8);
}

#[test]
fn a_segment_cut_within_a_record_says_which_offsets_are_missing() {
    let (fs, written) = sealed();
    let whole = fs.read_raw(&segment(0)).unwrap();
    for size in 0..whole.len() {
        let bad = copy(&fs);
        bad.write_raw(&segment(0), &whole[..size]);
        let rig = Rig::open(&bad, SMALL);
        // Those behind are in the next segment.
        let mut found = check_agrees(&rig);
        let behind = found.split_off(&7);
        assert_eq!(behind.len(), 1);
        let missing: Vec<u64> = (0..7).filter(|offset| !found.contains_key(offset)).collect();
        let told: Vec<u64> =
            rig.log.damage().iter().flat_map(|damage| damage.offsets.clone()).collect();
        // A file that ends where a record does says nothing of those behind: cleaning may have taken them.
        let ends = found.values().map(|record| record.payload.len() + 40).sum::<usize>() + 128;
        let expected = if size <= ends { Vec::new() } else { missing };
        assert_eq!(told, expected, "{size} bytes left");
        assert!(found.iter().all(|(offset, record)| written.get(offset) == Some(record)));
        assert_eq!(rig.append(9, 9), 8, "{size} bytes left");
    }
}

#[test]
fn a_lost_header_costs_no_record() {
    let (fs, written) = sealed();
    for damaged in [segment(0), segment(7)] {
        let bad = copy(&fs);
        let mut bytes = bad.read_raw(&damaged).unwrap();
        bytes[..128].fill(0);
        bad.write_raw(&damaged, &bytes);
        for round in 0..2 {
            let rig = Rig::open(&bad, SMALL);
            let mut expected = written.clone();
            if round > 0 {
                expected.insert(8, records_of(&entry(9, &[9]), 8).remove(0));
            }
            assert_eq!(check_agrees(&rig), expected, "{}", damaged.display());
            let told = rig.log.damage();
            assert_eq!(told.len(), 1, "{told:?}");
            assert_eq!(
                (told[0].position, told[0].bytes, told[0].offsets.is_empty()),
                (0, 128, true)
            );
            if round == 0 {
                assert_eq!(rig.append(9, 9), 8);
            }
        }
    }
}

#[test]
fn an_empty_newest_segment_whose_header_is_lost_is_not_taken_for_the_next() {
    for left in [vec![0; 128], Vec::new(), vec![0xff; 60]] {
        let fs = disk();
        let rig = Rig::open(&fs, SMALL);
        let written: Vec<u64> = (0..20).map(|seed| rig.append(seed, 100)).collect();
        drop(rig);
        // As rotation leaves it if no record followed.
        let newest = Rig::open(&fs, SMALL).log.segments().pop().unwrap();
        assert!(newest.base < 20 && newest.end == 20);
        let bad = copy(&fs);
        bad.write_raw(&segment(20), &left);
        let rig = Rig::open(&bad, SMALL);
        let mut offsets = written.clone();
        offsets.extend((50..70).map(|seed| rig.append(seed, 100)));
        assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
        assert_eq!(rig.offsets(), offsets);
        check_segments(&rig, &by_offset(rig.records()));
        rig.log.clean(0, &live(offsets.clone())).unwrap();
        assert_eq!(rig.offsets(), offsets, "nothing live is cleaned away");
        drop(rig);
        assert_eq!(Rig::open(&bad, SMALL).offsets(), offsets);
    }
}

#[test]
fn a_damaged_index_is_not_believed() {
    let (fs, written) = sealed();
    let sealed_bytes = bits(&fs, &segment(0)) / 8;
    let newest_bytes = bits(&fs, &segment(7)) / 8;
    let undamaged = Rig::open(&copy(&fs), SMALL);
    assert_eq!(undamaged.recovery.scanned_bytes, newest_bytes);
    for bit in 0..bits(&fs, &index(0)) {
        let bad = copy(&fs);
        bad.corrupt(&index(0), bit);
        let rig = Rig::open(&bad, SMALL);
        assert_eq!(by_offset(rig.records()), written, "bit {bit}");
        assert_eq!(rig.log.get(&[0, 6]).unwrap().iter().flatten().count(), 2, "bit {bit}");
        assert_eq!(rig.log.damage(), [], "bit {bit}");
        // Marks are only looked at when they are needed, the rest at once.
        let scanned = rig.recovery.scanned_bytes == newest_bytes + sealed_bytes;
        let in_marks = bit / 8 >= bits(&fs, &index(0)) / 8 - 28;
        let checksum_of_marks = (20..24).contains(&(bit / 8));
        assert!(scanned || in_marks || checksum_of_marks, "bit {bit}");
        drop(rig);
        if scanned {
            let rig = Rig::open(&bad, SMALL);
            assert_eq!(rig.recovery.scanned_bytes, newest_bytes, "bit {bit}: it is made anew");
        }
    }
}

#[test]
fn an_index_of_another_segment_is_not_believed() {
    let (fs, written) = sealed();
    let (other, _) = sealed();
    fs.write_raw(&index(0), &other.read_raw(&index(0)).unwrap());
    let rig = Rig::open(&fs, SMALL);
    assert_eq!(check_agrees(&rig), written);
    assert!(rig.recovery.scanned_bytes > bits(&fs, &segment(7)) / 8);
}

#[test]
fn a_record_in_another_place_is_not_believed() {
    let fs = disk();
    let rig = Rig::open(&fs, ONE);
    (0..3).for_each(|seed| assert_eq!(rig.append(seed, 60), seed));
    drop(rig);
    let mut bytes = fs.read_raw(&segment(0)).unwrap();
    bytes.copy_within(128..228, 228);
    fs.write_raw(&segment(0), &bytes);
    let rig = Rig::open(&fs, ONE);
    assert_eq!(rig.offsets(), [0, 2]);
    assert_eq!(rig.recovery.damaged[0].offsets, 1..2);
}

#[test]
fn a_payload_made_to_look_like_a_record_is_none() {
    let (fs, _) = several(ONE);
    let stolen = fs.read_raw(&segment(0)).unwrap()[128..].to_vec();
    let fs = disk();
    let rig = Rig::open(&fs, ONE);
    rig.append(1, 10);
    let trap = Entry { payloads: vec![stolen.repeat(3).into()], ..entry(2, &[]) };
    rig.try_append(trap).unwrap();
    rig.append(3, 10);
    drop(rig);
    // The header of the record around it is hit, so recovery looks for the next one inside its payload.
    fs.corrupt(&segment(0), (128 + 50 + 20) * 8);
    let rig = Rig::open(&fs, ONE);
    assert_eq!(rig.offsets(), [0, 2]);
    assert_eq!(rig.recovery.damaged.len(), 1);
}
