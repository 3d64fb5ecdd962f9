from __future__ import annotations
def test_x(make_run, make_loop):
    import time
    for f in ("t5","decoder","vit"):
        loop = make_loop(make_run(f, 0.5, "adafactor"))
        s=time.time()
        for _ in range(24): loop.advance()
        print(f, time.time()-s, loop.sparsity())
