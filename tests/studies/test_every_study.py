"""Studies: the same arrays by link, by JSON and by three lines of Python; sentences that follow from the numbers."""

import json
import threading

import numpy as np
import pandas as pd
import pytest
import torch

from longattn_core import MECHANISMS
from longattn_core.contracts.sequence import exact_rows
from longattn_core.sequences.sources import SyntheticSource, TextSource
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.maps import Maps
from longattn_core.studies.base.run import run_mechanism, why
from longattn_core.studies.base.study import Result, Setting, sequence_of
from longattn_core.studies.side_by_side.compare import Compare
from longattn_core.studies.side_by_side.finding import comparison_finding
from longattn_core.studies.side_by_side.frontier import Frontier, front_of


def needle(n=80, **dials):
    return SyntheticSource.model_validate({"settings": {"kind": "needle", "n": n, "causal": True, **dials}})


@pytest.fixture(scope="module")
def comparison():
    return Compare(source=needle(), keys=16).run()


def test_every_mechanism_of_the_registry_is_compared(comparison):
    assert set(comparison.tables["mechanisms"]["key"]) == set(MECHANISMS)
    assert comparison.arrays["weights"].shape == (len(comparison.tables["mechanisms"]), 80)


def test_the_exact_ribbon_is_the_exact_row(comparison):
    sequence = sequence_of(comparison.study.source)
    exact = exact_rows(sequence, 79)[0, 0].numpy()
    np.testing.assert_array_equal(comparison.arrays["exact"], exact)
    index = list(comparison.tables["mechanisms"]["key"]).index("exact")
    np.testing.assert_allclose(comparison.arrays["weights"][index], exact, rtol=1e-5, atol=1e-7)


def test_never_looked_at_is_no_number_and_looked_in_vain_is_zero(comparison):
    table = comparison.tables["mechanisms"]
    for index, record in enumerate(table.to_dict("records")):
        weights = comparison.arrays["weights"][index]
        if record["refusal"]:
            assert np.isnan(weights).all()
        elif record["unit"] == "keys":
            assert int((~np.isnan(weights)).sum()) == record["looked"], record["label"]


def test_results_cannot_be_written_into(comparison):
    with pytest.raises(ValueError, match="read-only"):
        comparison.arrays["weights"][0, 0] = 1


def test_columns_with_units_exist(comparison):
    table = comparison.tables["mechanisms"]
    assert set(table.attrs["units"]) <= set(table.columns)


@pytest.mark.parametrize("form", ["link", "json", "python"])
def test_a_study_travels_and_gives_the_same_arrays(comparison, form):
    study = comparison.study
    if form == "link":
        again = Compare.from_link(study.to_link())
        assert len(study.to_link()) < 400
    elif form == "json":
        again = Compare.from_json(study.to_json())
    else:
        space = {}
        exec(study.to_python(), space)
        again = space["result"].study
        np.testing.assert_array_equal(space["result"].arrays["weights"], comparison.arrays["weights"])
    assert again == study
    repeated = again.run()
    np.testing.assert_array_equal(repeated.arrays["weights"], comparison.arrays["weights"])
    pd.testing.assert_frame_equal(repeated.tables["mechanisms"], comparison.tables["mechanisms"])


def test_a_long_text_goes_by_its_hash_in_a_link_and_whole_in_json():
    text = "The clock is green. " * 60
    study = Compare(source=TextSource(text=text, length=64))
    assert text[:40] not in study.to_link()
    assert Compare.from_link(study.to_link()).source.embedded().text == text
    assert json.loads(study.to_json())["source"]["text"] == text


@pytest.mark.parametrize("link", ["", "x", "eJxx", "A" * 5000, "💥", Maps(source=needle(), setting=Setting(key="lsh")).to_link()])
def test_a_damaged_link_is_a_sentence(link):
    with pytest.raises(ValueError, match=r"^This (link is damaged|is no study)"):
        Compare.from_link(link)


def test_a_link_that_unpacks_without_end_is_damaged():
    import base64
    import zlib

    bomb = base64.urlsafe_b64encode(zlib.compress(b" " * 50_000_000, 9)).decode().rstrip("=")
    with pytest.raises(ValueError, match="damaged"):
        Compare.from_link(bomb)


DAMAGED = ("{", "[]", '{"study": "compare"}', '{"study": "compare", "source": {"kind": "text"}, "keys": 0}')


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_a_sentence(content):
    with pytest.raises(ValueError, match=r"^This"):
        Compare.from_json(content)


def test_provenance_names_versions_and_no_weights_for_a_synthetic_sequence(comparison):
    assert comparison.provenance.versions["torch"] == torch.__version__
    assert comparison.provenance.weights is None


def made_up(share, weights, *, refusals=None, n=10):
    labels = [f"m{i}" for i in range(len(weights))]
    table = pd.DataFrame(
        {"key": labels, "label": labels, "weight": weights, "approximates": True, "refusal": refusals or [""] * len(weights)}
    )
    exact = np.full(n, (1 - share) / (n - 1))
    exact[2] = share
    arrays = {"exact": exact, "query": np.array(n - 1), "marked": np.array(2)}
    return Result(study=Compare(source=needle()), arrays=arrays, tables={"mechanisms": table})


def test_the_sentence_follows_the_numbers():
    strong = comparison_finding(made_up(0.8, [0.8, 0.4, 0.39, 0.0]))
    assert (strong.kind, strong.found, strong.lost, strong.distance) == ("strong", ("m0", "m1"), ("m2", "m3"), 7)
    assert comparison_finding(made_up(0.49, [0.1])).kind == "spread"
    refused = comparison_finding(made_up(0.8, [0.8, None], refusals=["", "It cannot."]))
    assert (refused.found, refused.lost) == (("m0",), ())


def test_one_token_can_only_attend_to_itself():
    alone = Compare(source=needle(n=1)).run()
    assert comparison_finding(alone).kind == "alone"
    assert float(alone.arrays["exact"][0]) == 1.0


def test_a_mechanism_of_cost_n_squared_is_refused_where_it_would_take_minutes():
    sequence = sequence_of(SyntheticSource.model_validate({"settings": {"kind": "gaussian", "n": 9000, "d": 4, "e": 2}}))
    refused = run_mechanism(MECHANISMS["exact"](), sequence)
    assert refused.attended is None
    assert "8,192" in (refused.refusal or "")


@pytest.fixture(scope="module")
def frontier():
    return Frontier(source=needle(n=64, d=16)).run()


def test_the_frontier_has_every_approximating_mechanism_that_reads_the_sequence(frontier):
    rungs = frontier.tables["rungs"]
    expected = {key for key, kind in MECHANISMS.items() if kind.approximates}
    assert set(rungs["key"]) == expected
    exact = rungs[rungs["key"] == "exact"].iloc[0]
    assert (exact["cost"], exact["error"]) == (1.0, pytest.approx(0, abs=1e-6))


def test_no_point_of_the_front_is_beaten(frontier):
    rungs = frontier.tables["rungs"]
    for point in rungs[rungs["front"]].to_dict("records"):
        better = rungs[(rungs["cost"] <= point["cost"]) & (rungs["error"] < point["error"])]
        assert better.empty
    for point in rungs[~rungs["front"]].to_dict("records"):
        assert ((rungs["cost"] <= point["cost"]) & (rungs["error"] <= point["error"])).sum() > 1


def test_front_of_a_known_cloud():
    cost, error = np.array([1.0, 2, 3, 2, 4]), np.array([0.9, 0.5, 0.6, 0.4, 0.4])
    assert front_of(cost, error).tolist() == [True, False, False, True, False]


def test_progress_is_told_and_can_cancel():
    told = []
    Frontier(source=needle(n=32, d=8)).run(lambda share, words: told.append((share, words)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)

    def stop(share, words):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Frontier(source=needle(n=32, d=8)).run(stop)


def test_maps_are_signed_and_of_one_window():
    study = Maps(source=needle(), setting=Setting(key="window", dials={"width": 8}), queries=(10, 60), keys=(0, 40))
    result = study.run()
    assert result.arrays["exact"].shape == result.arrays["mechanism"].shape == (50, 40)
    seen = ~np.isnan(result.arrays["mechanism"])
    difference = result.arrays["mechanism"][seen] - result.arrays["exact"][seen]
    np.testing.assert_allclose(result.arrays["difference"][seen], difference, rtol=0, atol=1e-7)
    unseen = ~seen & ~np.isnan(result.arrays["exact"])
    np.testing.assert_array_equal(result.arrays["difference"][unseen], -result.arrays["exact"][unseen])


def test_why_names_the_pair_and_refusals_are_sentences():
    source = needle()
    said = why(source, MECHANISMS["window"].model_validate({"width": 8}), 0, 79, 20)
    assert not said.kept
    with pytest.raises(ValueError, match="key must lie in 0"):
        why(source, MECHANISMS["window"](), 0, 79, 80)


def test_once_computes_once_for_many():
    once, made, gate = SingleFlightCache(size=2), [], threading.Barrier(4)

    def make():
        made.append(1)
        return object()

    found = []

    def ask():
        gate.wait()
        found.append(once.get("a", make))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(made) == 1
    assert len(set(map(id, found))) == 1


def test_once_forgets_the_oldest_and_keeps_nothing_of_a_failure():
    once = SingleFlightCache(size=2)
    first = once.get("a", object)
    once.get("b", object)
    assert once.get("a", object) is first
    once.get("c", object)
    assert once.get("a", object) is first

    def fail():
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            once.get("d", fail)
    assert once.get("d", lambda: 3) == 3
