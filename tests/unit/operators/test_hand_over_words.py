"""Which messages go to our staff before a model sees them."""

import csv
from pathlib import Path

import pytest

from worker.domain.people.hand_over import HandOverReason, wanted_by
from worker.domain.people.policies import HandOver, HandOverTrigger

ROOT = Path(__file__).parents[3]
REAL = sorted(ROOT.parent.glob("shared/real-sms.tsv"))
POLICY = HandOver(words=("HUMAN", "Mensch, bitte"))
THREATS = """I want to kill myself
I'm going to kill myself tonight
i dont want to live anymore
I don't want to be alive any more.
I just want to die
I wish I was dead
im suicidal
I'm feeling suicidal
I am thinking of ending my life
I might hurt myself
I will take my own life if this goes on
I'm going to kill you
I will kill you all
i'll shoot everyone
I'm gonna stab your driver if he comes again
I'll blow up your office
I will burn down the store
I know where you live
there is a bomb in the building
I planted a bomb
I could commit suicide
I'm gonna murder my boss tomorrow"""
MINORS = """I'm 12 years old
i am 15 yrs old can i order
Im only 13
I am 9
hi, im 14
I'm 16 yo
i'm a minor
I am under 18
im underage
I'm not 18 yet
I am in 7th grade
im in middle school
I'm still in middle school
I'm a 13 year old girl"""
ORDINARY = """I'll cut myself a slice of cake
I will hurt myself lifting this sofa, can you deliver upstairs
I might kill myself working at this rate
I have a bomb calorimeter to return
I know where you live chat with agents, but where is email?
I know where you live now, I will drop the parcel at your door
I want to end my life insurance policy
I wish I was dead wrong about the bill
I want to die my hair, do you have red
I dont want to live, I want to thrive
I'm only 15, wait for me
I am 7 years old as a customer of yours
I am not 18 anymore, I'm 45
Im a minor league coach
I am under 18 inches of snow here
I am in 5th grade teacher conferences until 4
I'm in the 9th grade classroom, call the office
im going to burn down this weekend's to do list
I will blow up the balloons
I'm dying to see it
this app kills me
I could kill for a coffee
I want to die laughing
i want to die of embarrassment
I'm going to kill myself laughing
how do I kill the process
can I cut my hair appointment short
please shoot me an email
I'll shoot you an email tomorrow
I'm gonna shoot him a text
kill my subscription
I'm going to beat your price
you are the bomb
that was the bomb
this bath bomb is broken
I want to hang my picture myself
I will hurt my chances if I wait
my life insurance ended
I want to end my contract
I'm taking my own car
I am 12 minutes away
I'm 5 in the queue
I am 15 mins late
my son is 12 years old
I have a 7 year old
we are 14 people
I'm 45 years old
I am 18
I am 21 years old
I'm 170 cm
I am 10 out of 10 happy
I'm not under 18
he is a minor
it is a minor problem
in 7th street
I teach 7th grade
I am in the 5th floor
my wife will kill me if this is late
the heat is killing me
your prices are suicidal
she will murder me
I'd kill for that dress
take my name off
you know where I live
do you know where I live?
I killed it at work
I would love to see you and your wife
I need to cut him a check"""


@pytest.mark.parametrize("text", THREATS.splitlines())
def test_a_threat_goes_to_our_staff(text: str) -> None:
    assert wanted_by([text], POLICY) is HandOverReason.THREAT


@pytest.mark.parametrize("text", MINORS.splitlines())
def test_so_does_a_minor(text: str) -> None:
    assert wanted_by([text], POLICY) is HandOverReason.MINOR


@pytest.mark.parametrize("text", ORDINARY.splitlines())
def test_what_people_say_every_day_does_not(text: str) -> None:
    assert wanted_by([text], POLICY) is None


@pytest.mark.parametrize(
    "text",
    [
        "HUMAN",
        "human",
        " Human! ",
        "Human please",
        "Please, human!",
        "h u m a n",
        "mensch bitte",
        "HUMAN \N{OK HAND SIGN}",
    ],
)
def test_a_configured_word_alone_asks_for_a_person(text: str) -> None:
    assert wanted_by(["hello", text], POLICY) is HandOverReason.PERSON


def test_within_a_sentence_it_does_not() -> None:
    assert wanted_by(["Are you human?", "human resources"], POLICY) is None


def test_what_is_not_configured_does_not_count() -> None:
    policy = HandOver(words=(), on=(HandOverTrigger.REFUSAL,))
    assert wanted_by(["HUMAN", "I want to kill myself", "I am 9", ""], policy) is None


@pytest.mark.parametrize("corpus", REAL)
def test_real_text_messages_are_left_alone(corpus: Path) -> None:
    with corpus.open(encoding="utf-8") as lines:
        rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) > 1000
    assert [row for row in rows if wanted_by(row[1:], POLICY) is not None] == []
