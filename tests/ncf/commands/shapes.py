"""Small files in the form of public data sets: 6 users with 8 of 12 items each, in the columns of the original."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import polars as pl

START = 1_600_000_000  # seconds
EVENTS = ["view", "view", "addtocart", "view", "view", "transaction"]
SHOP_EVENTS = ["view", "view", "cart", "view", "view", "purchase"]
Write = Callable[[Path], Any]


@dataclass(frozen=True)
class Shape:
    """`write` makes files in a folder; the other fields are what is read from them."""

    write: Write
    held_out: str = "latest"  # random without times, own for a folder with a split of its own
    pairs: int = 48


def facts(user: int, step: int) -> dict[str, Any]:
    """The values of one row: user, item, rating, and the time in the forms of different data sets."""
    item, stars, time = (3 * user + step) % 12 + 1, (user + step) % 5 + 1, START + 5_000 * (6 * step + user)
    when = datetime.fromtimestamp(time, timezone.utc)
    forms = {"d": "%Y-%m-%d", "dt": "%Y-%m-%d %H:%M:%S", "iso": "%Y-%m-%dT%H:%M:%SZ", "ymd": "%Y%m%d"}
    dates = {name: when.strftime(form) for name, form in {**forms, "c": "%a %b %d %H:%M:%S +0000 %Y"}.items()}
    events = {"e": EVENTS[(user + stars) % 6], "shop": SHOP_EVENTS[(user + stars) % 6]}
    return {"u": user, "i": item, "r": stars, "t": time, "n": 6 * step + user, **events, **dates}


FACTS = [facts(user, step) for step in range(8) for user in range(1, 7)]


def text(name: str, row: str, header: str = "", encoding: str = "utf-8") -> Write:
    """A writer of a text file, packed if the name says so; `row` is a template of `facts`."""
    content = "".join(line + "\n" for line in [*([header] if header else []), *(row.format(**each) for each in FACTS)])
    data = content.encode(encoding)
    return file(name, gzip.compress(data) if name.endswith(".gz") else data)


def objects(name: str, **fields: Any) -> Write:
    """A writer of JSON Lines; a text is a template, and one that begins with # is a number."""

    def value(template: Any, each: dict[str, Any]) -> Any:
        filled = template.format(**each) if isinstance(template, str) else template
        return int(filled[1:]) if isinstance(filled, str) and filled.startswith("#") else filled

    rows = [json.dumps({name: value(template, each) for name, template in fields.items()}) for each in FACTS]
    data = ("\n".join(rows) + "\n").encode()
    return file(name, gzip.compress(data) if name.endswith(".gz") else data)


def file(name: str, content: str | bytes) -> Write:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def several(*writers: Write) -> Write:
    return lambda folder: [write(folder) for write in writers]


def frame(user: str = "user_id", item: str = "item_id") -> pl.DataFrame:
    return pl.DataFrame([(each["u"], each["i"], each["t"]) for each in FACTS], [user, item, "timestamp"], orient="row")


def float_ids(folder: Path) -> None:
    """As pandas writes a table in which an id was missing."""
    frame().with_columns(pl.col("user_id", "item_id").cast(pl.Float64)).write_parquet(folder / "clicks.parquet")


def parts(*names: str) -> Write:
    """Three Parquet files in folders, with Spark's mark that all are written."""

    def write(folder: Path) -> None:
        for number, name in enumerate(names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            frame()[16 * number : 16 * number + 16].write_parquet(folder / name)
        (folder / Path(names[0]).parts[0] / "_SUCCESS").touch()

    return write


def zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "clicks.csv.zip", "w") as archive:
        archive.writestr("clicks.csv", frame().write_csv())


def split_in_two(train: str, test: str, row: str) -> Write:
    """Two files: the last row of each user is in the second."""
    rows = [row.format(**each) + "\n" for each in FACTS]
    return several(file(train, "".join(rows[:-6])), file(test, "".join(rows[-6:])))


PAPER = several(
    split_in_two("ncf-data/ml-1m.train.rating", "ncf-data/ml-1m.test.rating", "{u}\t{i}\t{r}\t{t}"),
    file("ncf-data/ml-1m.test.negative", "".join(f"({each['u']},{each['i']})\t3\t4\n" for each in FACTS[-6:])),
)
LIGHTGCN = several(
    file("gowalla/train.txt", "".join(f"{u} {' '.join(str((3 * u + n) % 12) for n in range(7))}\n" for u in range(6))),
    file("gowalla/test.txt", "".join(f"{u} {(3 * u + 7) % 12}\n" for u in range(6))),
)
MOVIES = "movieId,title,genres\n" + "".join(f"{n},Film {n},Drama|{n % 3}\n" for n in range(12))
LATEST = several(
    text("ml-latest-small/ratings.csv", "{u},{i},{r}.5,{t}", "userId,movieId,rating,timestamp"),
    text("ml-latest-small/tags.csv", "1,{i},good,{t}", "userId,movieId,tag,timestamp"),
    file("ml-latest-small/movies.csv", MOVIES),
    file("ml-latest-small/links.csv", "movieId,imdbId,tmdbId\n" + "".join(f"{n},{n + 7},{n + 9}\n" for n in range(12))),
)
AMAZON_2014 = objects(
    "reviews_Books_5.json.gz", reviewerID="A{u}X", asin="000{i:07}", reviewerName="J. Doe", helpful=[0, 1],
    reviewText="Fine.", overall="#{r}", summary="Fine", unixReviewTime="#{t}", reviewTime="{d}",
)  # fmt: skip
AMAZON_2023 = objects(
    "All_Beauty.jsonl.gz", rating="#{r}", title="Fine", text="It works.", images=[], asin="B{i}", parent_asin="B0",
    user_id="AE{u}", timestamp="#{t}000", helpful_vote=0, verified_purchase=True,
)  # fmt: skip
YELP = objects(
    "yelp_academic_dataset_review.json", review_id="r{n}", user_id="u{u}", business_id="b{i}", stars="#{r}", useful=0,
    funny=0, cool=0, text="Good, but slow. " * 9, date="{dt}",
)  # fmt: skip
BOOKS = '"User-ID";"ISBN";"Book-Rating"'
HM = "t_dat,customer_id,article_id,price,sales_channel_id"
KUAI = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"
STEAM = "app_id,helpful,funny,date,is_recommended,hours,user_id,review_id"
SHOPIFY = "Name,Email,Financial Status,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku"
RETAIL = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
LASTFM_1K = "userid-timestamp-artid-artname-traid-traname.tsv"
LASTFM_360K = "usersha1-artmbid-artname-plays.tsv"
REES = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"

SHAPES: dict[str, Shape] = {
    "ratings.dat": Shape(text("ratings.dat", "{u}::{i}::{r}::{t}")),
    "u.data": Shape(text("u.data", "{u}\t{i}\t{r}\t{t}")),
    "ml-latest-small": Shape(LATEST),
    "ml-latest-small/ratings.csv": Shape(LATEST),
    "BX-Book-Ratings.csv": Shape(text("BX-Book-Ratings.csv", '"27{u}";"É3451{i}X";"{r}"', BOOKS, "latin-1"), "random"),
    "reviews_Books_5.json.gz": Shape(AMAZON_2014),
    "All_Beauty.jsonl.gz": Shape(AMAZON_2023),
    "ratings_Books.csv": Shape(text("ratings_Books.csv", "AH2L9G3DQHHA{u},0000{i:06},{r}.0,{t}")),
    "All_Beauty.csv": Shape(text("All_Beauty.csv", "AE{u},B{i},{r}.0,{t}000", "user_id,parent_asin,rating,timestamp")),
    "events.csv": Shape(
        text("events.csv", "{t}123,25{u},{e},35{i},", "timestamp,visitorid,event,itemid,transactionid")
    ),
    "transactions_train.csv": Shape(text("transactions_train.csv", "{d},{u:064x},0663713{i:03},0.0{r}08,2", HM)),
    "yelp_academic_dataset_review.json": Shape(YELP),
    "user_artists.dat": Shape(text("user_artists.dat", "{u}\t5{i}\t{r}713", "userID\tartistID\tweight"), "random"),
    LASTFM_360K: Shape(text(LASTFM_360K, "{u:040x}\t{i:08x}-1f5c-4e4e\tbetty {i}\t{r}713"), "random"),
    LASTFM_1K: Shape(text(LASTFM_1K, 'user_00000{u}\t{iso}\t{i:08x}-1f5c\tAct {i}\t\tSong "{r}')),
    "Gowalla_totalCheckins.txt": Shape(text("Gowalla_totalCheckins.txt", "{u}\t{iso}\t30.2{i}59\t-97.79{i}\t2284{i}")),
    "dataset_TSMC2014_NYC.txt": Shape(
        text("dataset_TSMC2014_NYC.txt", "4{u}\t49bb{i:03}\t4bf5\tCafé\t40.7{i}\t-74.0{i}\t-240\t{c}", "", "latin-1"),
        "random",
    ),
    "ml-100k.inter": Shape(
        text("ml-100k.inter", "{u}\t{i}\t{r}\t{t}", "user_id:token\titem_id:token\trating:float\ttimestamp:float")
    ),
    "ncf-data": Shape(PAPER, "own"),
    "gowalla": Shape(LIGHTGCN, "own"),
    "spark": Shape(parts(*(f"spark/part-0000{number}-c000.snappy.parquet" for number in range(3)))),
    "hive": Shape(parts(*(f"hive/day=2026-11-0{number}/part-0.parquet" for number in (1, 2, 3)))),
    "clicks.parquet": Shape(float_ids),
    "clicks.arrow": Shape(lambda folder: frame("customer_id", "sku").write_ipc(folder / "clicks.arrow")),
    "clicks.csv.zip": Shape(zipped),
    "big_matrix.csv": Shape(text("big_matrix.csv", "{u},36{i},{r}838,10867,{dt}.314,{ymd},{t}.314,{r}.75", KUAI)),
    "steam-200k.csv": Shape(text("steam-200k.csv", '1516{u},"The Elder Scrolls, V{i}",play,{r}7.3,0'), "random"),
    "recommendations.csv": Shape(text("recommendations.csv", "97{i},0,0,{d},true,{r}2.3,515{u},{n}", STEAM)),
    "orders_export.csv": Shape(
        text("orders_export.csv", "#{n},u{u}@example.com,paid,{dt} +0100,{r},Shirt {i},1{r}.90,SH-{i}", SHOPIFY)
    ),
    "ga4.csv": Shape(
        text(
            "ga4.csv",
            "{ymd},{t}123456,{e},12{u}.16{u},SKU{i}",
            "event_date,event_timestamp,event_name,user_pseudo_id,item_id",
        )
    ),
    "2019-Oct.csv": Shape(
        text("2019-Oct.csv", "{dt} UTC,{shop},44{i},20530135{r},,acme,3{r}.79,5419{u},7213-{u}", REES)
    ),
    "OnlineRetail.csv": Shape(
        text("OnlineRetail.csv", '{n},85{i}A,"CAFÉ, {i}",{r},12/1/2010 8:26,2.{r}5,1785{u},France', RETAIL, "latin-1"),
        "random",
    ),
    "goodreads_interactions.csv": Shape(
        text("goodreads_interactions.csv", "{u},94{i},1,{r},0", "user_id,book_id,is_read,rating,is_reviewed"), "random"
    ),
    "anime.csv": Shape(text("anime.csv", "{u},2{i},-1", "user_id,anime_id,rating"), "random"),
    "UserBehavior.csv": Shape(text("UserBehavior.csv", "{u},2268{i},25203{r},pv,{t}")),
    "train_triplets.txt": Shape(text("train_triplets.txt", "{u:040x}\tSOAKIMP12A8C13{i:04}\t{r}"), "random"),
    "order_products.csv": Shape(
        text("order_products.csv", "{u},33{i},{r},1", "order_id,product_id,add_to_cart_order,reordered"), "random"
    ),
    "excel.csv": Shape(text("excel.csv", "Kunde {u};Ware {i};{dt}", "sep=;\nKunde;Artikel;Kaufdatum", "utf-8-sig")),
    "unicode.txt": Shape(text("unicode.txt", "u{u}\tä{i}\t{dt}", "customer\tproduct\tdate", "utf-16")),
    "zero-bytes.csv": Shape(text("zero-bytes.csv", "u{u},i{i},{t}", "user_id,item_id,timestamp", "utf-16-le")),
    "curly.csv": Shape(text("curly.csv", "u{u},“{i}”,{t}", "user_id,item_id,timestamp", "cp1252")),
    "names.csv": Shape(text("names.csv", "amy{u},tea{i}"), "random"),
    "large ids.csv": Shape(text("large ids.csv", "100000000{u},20000000{i:02},{r},{t}")),
    "german.csv": Shape(
        text("german.csv", "{n};Müller {u};Ware {i};{r}.1.2026", "Nr;Kunde;Artikel;Datum", "cp1252"), "random"
    ),
    "two ids.csv": Shape(text("two ids.csv", "{u},{i},Tea {i},{t}", "customer,product_id,product,date")),
    "short.csv": Shape(text("short.csv", "{u},{i},{t}", "user_id,item_id,timestamp,note")),
}
FAULTY = {
    "broken.csv": "user_id,item_id,timestamp\n1,5,{t},9,9\n",
    "holes.csv": "customer,product,date\n1,,{t}\n",
    "dates.csv": "visitor,sku,time\n1,5,tomorrow\n",
    "weights.csv": "user,item,weight,ts\n1,5,-3,{t}\n",
}
SHAPES |= {
    name: Shape(text(name, "{u},{i},2,{t}" if "weight" in name else "{u},{i},{t}", rows.format(t=START).strip()))
    for name, rows in FAULTY.items()
}
SHAPES["cut.jsonl"] = Shape(several(objects("cut.jsonl", user="{u}", item="{i}", ts="{t}"), lambda folder: cut(folder)))


def cut(folder: Path) -> None:
    with (folder / "cut.jsonl").open("a") as lines:
        lines.write('{"user": 1, "it')


HOPELESS: dict[str, tuple[str | bytes, str]] = {
    "zeros.csv": (bytes(range(256)) * 9, "zero bytes"),
    "book.csv": (b"\xd0\xcf\x11\xe0" + b"\1" * 99, "is a workbook of Excel"),
    "paper.csv": (b"%PDF-1.7\n" + b"\1\n" * 99, "is a PDF"),
    "units.csv": ("user_id,item_id,timestamp\n1,2,1600000000\n1,3,1600000000000\n2,2,1600000000\n", "in one unit"),
    "turned.csv": ("user_id,item_id\n1,2\n1,3\n2,3\nitem_id,user_id\n3,1\n2,2\n", "columns in another order"),
    "movies.csv": (MOVIES, "has no column 'user_id'"),
    "prose.txt": ("Four score, and seven\nyears ago our fathers\n\nbrought forth\n" * 9, "no column 'user_id'"),
    "latin.csv": ("user_id,item_id\n1,é\n2,\xff\n".encode() + b"2,\xe9\n", "is not UTF-8"),
    "array.json": ('[{"user_id": 1, "item_id": 2}]', "one JSON array"),
    "empty.csv": ("", "no rows"),
    "frame.pkl": (b"\x80\x04\x95" + b"\1" * 99, "is a pickle"),
    "us.csv": ("user_id,item_id,date\n1,2,11/30/2026\n2,3,12/1/2026\n2,2,12/2/2026\n", "neither a number nor a date"),
    "mostly.csv": ("user_id,item_id,weight\n1,2,x\n2,3,x\n2,2,1\n1,3,1\n3,3,x\n", "which is not a number above 0"),
}  # fmt: skip
