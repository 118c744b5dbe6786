def test_probe(trained, exported):
    for run in trained.runs:
        print(run.score, run.seconds, run.history)
    print(exported.members, exported.voting[1])
    import os

    print(os.listdir(exported.folder))
