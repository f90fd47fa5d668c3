//! What the capture lost of the part that is judged.
//!
//! Owns the counting, and whether it is known when it was. Must not know what is judged, nor who captured. Bounded: some
//! numbers.
//!
//! Whole messages may have been in what was lost, and then nothing tells of them: neither a case that is inconclusive, nor
//! a hole in a stream. So a run that lost anything is none in which all held.

use observer_core::Record;
use observer_core::record::{GapCause, Kind, Summary};
use observer_core::time::WallTime;

/// What was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Packets that the capture counted as lost.
    pub packets: u64,
    /// Holes in streams that such losses left, or that nothing explains where nothing counts them.
    pub gaps: u64,
    /// Holes in streams that were cut off by a snap length.
    pub cut: u64,
}

/// Counts what was lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    lost: Lost,
    /// Holes that nothing explains.
    unexplained: u64,
    /// Packets that are told of with their time, within the part that is judged or not.
    timed: u64,
    /// Packets of which it is not known when they were lost.
    untimed: u64,
    /// When the record before was told.
    before: WallTime,
}

impl Losses {
    /// Takes a record, of all records in their order; what is judged is from `since` until `until`.
    pub fn handle(&mut self, record: &Record<'_>, [since, until]: [WallTime; 2]) {
        let time = record.time.wall;
        match &record.kind {
            Kind::CaptureLoss(loss) if loss.packets > self.timed => {
                let packets = loss.packets - self.timed;
                self.timed = loss.packets;
                // It was since whatever was seen before.
                if time >= since && self.before <= until {
                    self.lost.packets = self.lost.packets.saturating_add(packets);
                }
            }
            Kind::Gap(gap) if time >= since && time <= until => match gap.cause {
                GapCause::CaptureLoss => self.lost.gaps += 1,
                GapCause::NeverSeen => self.unexplained += 1,
                GapCause::SnapLength => self.lost.cut += 1,
                // What the observer gives up the sender may have asked for.
                GapCause::Limit => {}
            },
            Kind::Summary(summary) => self.end(summary),
            _ => {}
        }
        self.before = time;
    }

    /// So many packets were lost, and it is not known when.
    pub const fn note_untimed(&mut self, packets: u64) {
        self.untimed = self.untimed.saturating_add(packets);
        self.lost.packets = self.lost.packets.saturating_add(packets);
    }

    /// Whether it is known of every packet that was lost when that was.
    pub const fn has_times(&self) -> bool {
        self.untimed == 0
    }

    /// What was lost, once the summary was taken.
    pub const fn lost(&self) -> Lost {
        self.lost
    }

    fn end(&mut self, summary: &Summary) {
        match &summary.capture {
            Some(capture) => {
                let all = capture.losses.iter().map(|(_, packets)| *packets).fold(0, u64::saturating_add);
                let told = self.timed.saturating_add(self.untimed);
                self.note_untimed(all.saturating_sub(told));
            }
            // Where nothing counts losses, a hole is all that tells of one.
            None => self.lost.gaps += std::mem::take(&mut self.unexplained),
        }
    }
}

#[cfg(test)]
mod tests {
    use observer_core::record::{
        CaptureCounters, CaptureLoss, Connection, ConnectionId, Direction, Gap, Received,
    };
    use observer_core::time::Time;

    use super::*;

    fn connection() -> Connection {
        Connection {
            id: ConnectionId(1),
            client: ([127, 0, 0, 1], 1).into(),
            server: ([127, 0, 0, 1], 2).into(),
            interface: None,
            scope: 0,
            client_claim: None,
        }
    }

    fn gap(cause: GapCause) -> Kind<'static> {
        Kind::Gap(Gap { direction: Direction::ClientToServer, offset: 0, length: 1, cause })
    }

    const fn loss(packets: u64) -> Kind<'static> {
        Kind::CaptureLoss(CaptureLoss { packets })
    }

    const fn passes() -> Kind<'static> {
        Kind::Received(Received { direction: Direction::ClientToServer, to: 1, is_full: false })
    }

    fn summary(packets: Option<u64>) -> Kind<'static> {
        let counters = |packets| CaptureCounters { losses: vec![("x", packets)], ..Default::default() };
        Kind::Summary(Box::new(Summary { capture: packets.map(counters), ..Summary::default() }))
    }

    /// What was lost from 10 to 20, and whether all of it has times.
    fn lost<const N: usize>(records: [(u64, Kind<'_>); N]) -> (u64, u64, bool) {
        let losses = taken(records);
        (losses.lost().packets, losses.lost().gaps, losses.has_times())
    }

    fn taken<const N: usize>(records: [(u64, Kind<'_>); N]) -> Losses {
        let connection = connection();
        let mut losses = Losses::default();
        for (time, kind) in records {
            let time = Time::from_file(time);
            let record = Record { time, connection: Some(&connection), stream_end: None, kind };
            losses.handle(&record, [WallTime(10), WallTime(20)]);
        }
        losses
    }

    #[test]
    fn what_is_lost_outside_the_part_that_is_judged_does_not_count() {
        assert_eq!(lost([(5, loss(3)), (9, loss(4)), (30, summary(Some(4)))]), (0, 0, true));
        assert_eq!(lost([(5, loss(3)), (12, loss(7)), (30, summary(Some(7)))]), (4, 0, true));
        assert_eq!(lost([(21, passes()), (30, loss(7)), (31, summary(Some(7)))]), (0, 0, true));
    }

    #[test]
    fn what_may_have_been_lost_before_the_end_of_the_part_counts() {
        assert_eq!(lost([(19, passes()), (30, loss(7)), (31, summary(Some(7)))]), (7, 0, true));
    }

    #[test]
    fn what_only_the_summary_tells_of_counts_since_it_has_no_time() {
        assert_eq!(lost([(5, loss(3)), (30, summary(Some(5)))]), (2, 0, false));
        assert_eq!(lost([(30, summary(Some(5)))]), (5, 0, false));
        assert_eq!(lost([(30, summary(Some(0)))]), (0, 0, true));
        assert_eq!(lost([(30, summary(None))]), (0, 0, true));
    }

    #[test]
    fn a_hole_counts_that_a_loss_left_or_that_nothing_explains_where_nothing_is_counted() {
        let holes = |packets| {
            lost([
                (9, gap(GapCause::CaptureLoss)),
                (11, gap(GapCause::CaptureLoss)),
                (12, gap(GapCause::NeverSeen)),
                (13, gap(GapCause::SnapLength)),
                (14, gap(GapCause::Limit)),
                (30, summary(packets)),
            ])
        };
        assert_eq!(holes(None), (0, 2, true));
        assert_eq!(holes(Some(0)), (0, 1, true));
    }

    #[test]
    fn what_a_snap_length_cut_off_counts_apart() {
        let cut = || gap(GapCause::SnapLength);
        let losses = taken([(9, cut()), (11, cut()), (12, gap(GapCause::Limit)), (30, summary(None))]);
        assert_eq!(losses.lost(), Lost { packets: 0, gaps: 0, cut: 1 });
    }

    #[test]
    fn what_was_told_of_without_a_time_is_not_counted_again_from_the_summary() {
        let mut losses = Losses::default();
        losses.note_untimed(3);
        losses.end(&Summary {
            capture: Some(CaptureCounters { losses: vec![("x", 5)], ..Default::default() }),
            ..Summary::default()
        });
        assert_eq!((losses.lost().packets, losses.has_times()), (5, false));
    }
}
