"""Friendship plots: sharing, a new child, something broken, a quarrel."""

from quantale.data.stories.grammar import Plot

_TOYS = ("kite", "ball", "toy train", "toy horse", "drum", "toy boat")

SHARING = Plot(
    name="sharing",
    hero="child",
    friend="child",
    prompts=(
        "{hero} does not want to share {his} new {toy} with {friend}.",
        "A story about {hero}, {friend} and {a_toy}, and why sharing is more fun.",
    ),
    slots={
        "toy": _TOYS,
        "color": ("red", "blue", "yellow", "green"),
        "giver": ("grandmother", "grandfather", "aunt", "uncle"),
        "spot": ("the garden", "the school", "the beach", "the meadow"),
    },
    paragraphs=(
        (
            (
                "{hero} got a new {color} {toy} from {his} {giver}.",
                "For {his} birthday, {hero} got a {color} {toy} from {his} {giver}.",
            ),
            ("It was the best {toy} in the world.", "{He} loved it very much.", ""),
            ("{Day}, {he} took it to {spot}.", "{He} took it to {spot} to play."),
            (
                'There {he} met {friend}. "May I play with your {toy}?" asked {friend}.',
                '{friend} was there too. "What a nice {toy}!" {he2} said. "May I try it?"',
            ),
            (
                '"No!" said {hero}. "It is my {toy}."',
                '"No, you may not," said {hero}. "It is only for me."',
            ),
        ),
        (
            (
                "{friend} was sad and walked away.",
                "{friend} looked down at {his2} shoes and went away.",
            ),
            (
                "{hero} played alone, but it was not much fun.",
                "Now {hero} had the {toy} all to {him}self, but {he} was lonely.",
            ),
            (
                "Nobody laughed with {him}.",
                "{He} looked at {friend}, who sat under a tree all alone.",
                "",
            ),
            (
                '"I was not kind," {he} thought.',
                '"It is no fun without a friend," {he} thought.',
            ),
        ),
        (
            (
                'So {he} went to {friend}. "I am sorry," {he} said. "Let us share."',
                '{He} ran to {friend} and said, "I am sorry. Come and play with me!"',
            ),
            (
                "{friend} smiled.",
                '"Really?" asked {friend}, and {his2} eyes were bright.',
            ),
            (
                "They played with the {color} {toy} all day.",
                "First {friend} played with it, and then {hero} did.",
            ),
            (
                "They laughed so much that they had to sit down.",
                "They had so much fun that they forgot the time.",
            ),
        ),
        (
            (
                '"Two can have more fun than one," said {hero}.',
                "Now {hero} knew that a toy is more fun for two.",
            ),
            (
                "From that day on, {hero} and {friend} were best friends.",
                "The next day, {friend} brought cookies for {hero}.",
            ),
        ),
    ),
)

NEWCOMER = Plot(
    name="newcomer",
    hero="child",
    friend="child",
    prompts=(
        "{friend} is new at school and very lonely. {hero} wants to be {his2} friend.",
        "{hero} makes friends with a new {kind2} who likes to {hobby}.",
    ),
    slots={
        "hobby|thing|fun": (
            "paint|a picture of a blue horse|painted a big picture of the whole school",
            "sing|a book of old songs|sang a song for the whole school",
            "build|a small wooden house|built a castle that was as tall as the teacher",
            "bake|a box of cookies|baked a cake for the whole school",
            "read|a book about the moon|read a story to the whole school",
        ),
        "town": ("the next village", "a town by the sea", "a land far away"),
        "place": ("by the window", "under the old tree", "on the stairs", "at the back"),
    },
    paragraphs=(
        (
            (
                "{Day}, a new {kind2} came to school.",
                "There was a new {kind2} at school.",
            ),
            (
                "{His2} name was {friend}, and {he2} came from {town}.",
                '"This is {friend}," said the teacher. "{He2} comes from {town}."',
            ),
            (
                "{friend} was quiet and did not say a word.",
                "{friend} knew nobody there, and {he2} felt very lonely.",
            ),
        ),
        (
            (
                "At lunch, {friend} sat alone {place}.",
                "When all the others played, {friend} sat {place}, all alone.",
            ),
            (
                "{hero} saw it, and {he} felt sorry.",
                "{hero} saw how sad {he2} was.",
                "{hero}, {a_trait} {kind}, saw this and thought about it.",
            ),
            (
                '{He} sat down next to {him2}. "I am {hero}," {he} said. "What do you like?"',
                '"Hello, {friend}," {he} said. "May I sit with you? What do you like to do?"',
            ),
            (
                '"I like to {hobby}," said {friend} in a quiet voice.',
                '{friend} looked up. "I like to {hobby}," {he2} said.',
            ),
            (
                "Then {he2} showed {hero} {thing}.",
                "The next day, {he2} brought {thing} for {hero} to see.",
            ),
        ),
        (
            ('"That is wonderful!" said {hero}.', '"I like it so much!" said {hero}.'),
            (
                '"Will you show me how to {hobby} like that?"',
                '"Can we {hobby} together?"',
            ),
            (
                "{friend} was so {glad} that {he2} forgot to be afraid.",
                "For the first time, {friend} laughed.",
            ),
            ("Together they {fun}.",),
        ),
        (
            (
                "Soon all the children wanted to play with {friend}.",
                "Now everybody wanted to know {friend}.",
                "",
            ),
            (
                '"Thank you for your kind words," {friend} told {hero}.',
                '"You were my first friend here," {friend} said to {hero}.',
            ),
            (
                "A kind word can make a new friend.",
                "And {hero} was {glad} to have a new friend.",
                "From then on, nobody in the school sat alone.",
            ),
        ),
    ),
)

BROKEN = Plot(
    name="broken",
    hero="child",
    friend="child",
    prompts=(
        "{friend} breaks the {toy} of {his2} friend {hero} and has to say sorry.",
        "A story about a broken {toy} and two friends.",
    ),
    slots={
        "toy|hurt": (
            "kite|had a big hole in it",
            "toy train|did not move any more",
            "toy house|had lost its roof",
            "drum|had a hole on top",
            "toy horse|had lost its head",
            "music box|did not play any more",
            "toy bird|had lost its wings",
        ),
        "mend": ("glue", "string and glue", "glue and paper", "some wood and glue"),
        "cause": (
            *("fell over it", "dropped it on the floor", "pulled too hard"),
            *("let it fall", "sat down on it"),
        ),
    },
    paragraphs=(
        (
            (
                "{hero} and {friend} were best friends.",
                "{hero} had a good friend, and {his2} name was {friend}.",
            ),
            (
                "{Day}, they played with the {toy} that {hero} loved most.",
                "{Day}, {hero} showed {friend} {his} dear old {toy}.",
            ),
            (
                '"Please be careful," said {hero}.',
                "They had so much fun.",
                "",
            ),
            ("But {then} {friend} {cause}.",),
            ("Now the {toy} {hurt}.", "Bump! The {toy} {hurt}."),
        ),
        (
            (
                '"My {toy}!" cried {hero}. {He} was very angry.',
                '"Look what you did!" cried {hero}, and there were tears in {his} eyes.',
            ),
            (
                "{friend} was so afraid that {he2} ran home.",
                "{friend} did not know what to say, so {he2} ran away.",
            ),
            (
                "That night, {friend} could not eat and could not sleep.",
                '"I must make it right," thought {friend}.',
            ),
        ),
        (
            (
                "The next morning, {friend} came back with {mend}.",
                "The next day, {friend} stood at the door. {He2} had {mend} in {his2} hands.",
            ),
            (
                '"I am sorry that I broke your {toy}," {he2} said. "May I help you now?"',
                '"I did it, and I am sorry," {he2} said. "I want to help you now."',
            ),
            (
                "{hero} thought about it, and then {he} smiled.",
                "{hero} was not angry any more.",
                '"I am sorry that I was so angry," said {hero}.',
            ),
            (
                "They sat at the table and worked until lunch.",
                "They worked side by side for a long time.",
            ),
        ),
        (
            (
                "{Atlast} the {toy} was as good as new.",
                "{Atlast} it was done. The {toy} looked a little strange, but it was whole again.",
            ),
            (
                '"I like it even more now," said {hero}, "because we did it together."',
                '"You are a good friend," said {hero}.',
            ),
            (
                "A true friend can say sorry.",
                "And they played with it again, and they were careful.",
                "They hugged, and all was well.",
            ),
        ),
    ),
)

QUARREL = Plot(
    name="quarrel",
    hero="child",
    friend="child",
    prompts=(
        "{hero} and {friend} are angry about {game}, but then {hero} needs help.",
        "Two friends are angry with each other until one of them {prompt}.",
    ),
    slots={
        "game": ("a ball game", "a word game", "a snow game", "a game of stones"),
        "accident|prompt|aid": (
            "fell into a hole|falls into a hole|pulled {him} out with a rope",
            "fell into the cold pond|falls into a pond|pulled {him} out with a long stick",
            "was stuck in a tree|is stuck in a tree|climbed up and helped {him} down",
            "lost {his} way in the fog|is lost in the fog|called until {he} found the path",
        ),
        "time": ("a whole day", "a week", "a whole week"),
    },
    paragraphs=(
        (
            (
                "{hero} and {friend} did everything together.",
                "{hero} and {friend} were neighbors and good friends.",
            ),
            ("{Day}, they played {game}.", "{Day}, they wanted to play {game}, and they did."),
            (
                '"I was first!" said {hero}.',
                '"That was not right!" said {hero}.',
            ),
            (
                '"That is not true!" shouted {friend}.',
                '"No, you are wrong!" said {friend}.',
            ),
            (
                "They were so angry that they both went home.",
                '"I do not want to play with you any more," they both said.',
            ),
        ),
        (
            (
                "For {time} they did not speak.",
                "They did not say a word to each other for {time}.",
            ),
            (
                "{hero} was bored and sad.",
                "{hero} thought of {his} friend, but {he} did not want to say so.",
            ),
            ("Then {hero} went out alone and {accident}.",),
            ('"Help!" {he} cried.', '"Can anybody help me?" {he} called.'),
        ),
        (
            (
                "{friend} heard {him} and came at once.",
                "And who came to help? It was {friend}!",
            ),
            (
                '"Do not worry, I am here," {he2} said.',
                '"Wait, I will help you!" {he2} called.',
            ),
            ("{friend} {aid}.",),
            (
                '"Why did you help me?" asked {hero}. "I was not kind to you."',
                '"Thank you," said {hero}. "I am sorry that I was so angry."',
            ),
            (
                '"You are my friend," said {friend}. "A friend is more than a game."',
                '"I am sorry too," said {friend}. "I was so lonely."',
            ),
        ),
        (
            ("They laughed and went home hand in hand.", "Then they hugged each other."),
            (
                "The next time they played, nobody wanted to be first.",
                "After that, they were never angry for long.",
                "Since that day, they have never shouted at each other again.",
            ),
        ),
    ),
)

PLOTS = (SHARING, NEWCOMER, BROKEN, QUARREL)
