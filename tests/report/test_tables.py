import report_samples as samples

from dkd.report.tables import markdown_table, table


def test_text_table() -> None:
    assert table([samples.dkd_run(), samples.joint_run()]) == (
        "                              after step 1 | mIoU_all after step\n"
        "method  mIoU_old  mIoU_new  mIoU_all  hIoU |    0     1\n"
        "DKD         69.0      45.0      60.0  54.5 | 80.0  60.0\n"
        "joint       86.0      75.0      82.3     – |    –  82.3\n"
    )


def test_text_table_of_one_step_has_no_history() -> None:
    run = samples.scored_run("DKD", [[90, 70]], task=(("cat",),), miou_all=80)
    assert table([run]) == (
        "                              after step 0\n"
        "method  mIoU_old  mIoU_new  mIoU_all  hIoU\n"
        "DKD            –         –      80.0     –\n"
    )


def test_text_table_leaves_the_history_out_where_it_does_not_fit() -> None:
    task = tuple((f"class {i}",) for i in range(20))
    text = table([samples.run("DKD", task, images=0)])
    assert max(map(len, text.splitlines())) <= 100
    assert "|" not in text


def test_text_table_does_not_let_a_label_move_the_cursor() -> None:
    run = samples.dkd_run().model_copy(update={"variant": "a\x1b[2Jb\n"})
    assert "a?[2Jb?" in table([run])


def test_wide_characters_take_two_columns() -> None:
    run = samples.dkd_run().model_copy(update={"variant": "蒸留"})
    head, row = table([run, samples.joint_run()]).splitlines()[1:3]
    assert head.index("mIoU_old") == row.index("    69.0") + 2


def test_seeds_of_a_variant_are_mean_and_sample_deviation() -> None:
    text = table([samples.dkd_run(1, 58.0), samples.dkd_run(2, 62.0)])
    # mean 60, sample standard deviation sqrt(((-2)^2 + 2^2) / 1)
    assert "60.0 ± 2.8" in text
    assert "69.0 ± 0.0" in text


def test_markdown() -> None:
    assert markdown_table([samples.dkd_run(), samples.joint_run()]) == (
        "| method | mIoU_old | mIoU_new | mIoU_all | hIoU |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| DKD | 69.0 | 45.0 | 60.0 | 54.5 |\n"
        "| joint | 86.0 | 75.0 | 82.3 | – |\n"
    )


def test_markdown_escapes_labels() -> None:
    run = samples.dkd_run().model_copy(update={"variant": "a|b<c>\n`d`"})
    assert "| a\\|b&lt;c>?\\`d\\` |" in markdown_table([run])
