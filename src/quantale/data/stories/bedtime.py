"""Bedtime plots: a child or a young animal that cannot sleep, and how sleep comes."""

from quantale.data.stories.grammar import Plot

_PARENTS = ("Mom|she", "Dad|he", "Grandma|she", "Grandpa|he")

SLEEPLESS = Plot(
    name="sleepless",
    hero="child",
    prompts=(
        "{hero} cannot sleep, and {parent} helps {him} with {cure}.",
        "A bedtime story about {hero}, who is not tired at all.",
    ),
    slots={
        "cure|deed": (
            "a song|sang a soft song about the stars",
            "warm milk|brought a cup of warm milk",
            "a story|told a long story about a sleepy bear",
            "a soft blanket|put a soft blanket around {him}",
            "a game|helped {him} to count the stars",
        ),
        "parent|pronoun": _PARENTS,
        "reason": (
            *("It was still light outside.", "The wind sang in the trees."),
            *("The bed was too warm.", "{hero} had too many thoughts."),
        ),
        "tries": (
            "First {he} lay on one side, and then {he} lay on the other.",
            "{He} closed {his} eyes, but they opened again.",
            "{He} thought about the day, and about the next day.",
        ),
    },
    paragraphs=(
        (
            ("It was night, and {hero} was in bed.", "The moon was up, and it was time to sleep."),
            (
                "But {hero} could not sleep.",
                "But {hero} was wide awake.",
            ),
            ("{reason}",),
            ("{tries}", ""),
        ),
        (
            (
                '"{parent}," called {hero}, "I cannot sleep!"',
                'Then {he} called, "{parent}! I am not tired!"',
            ),
            (
                "{parent} came in and sat down on the bed.",
                "The door opened, and there was {parent}.",
            ),
            (
                '"Then I will tell you something," said {parent}. "{Cure} can help."',
                '"I know what will help," said {parent}. "{Cure}, and then a kiss."',
            ),
            ("So {parent} {deed}.", "And {parent} {deed}."),
        ),
        (
            (
                "{hero} listened to the quiet house.",
                "{hero} felt warm and safe.",
                "Slowly, {hero} grew calm.",
            ),
            (
                '"Where does the sun go at night?" {he} asked.',
                '"Will you stay with me?" {he} asked.',
                '"Is the cat asleep too?" {he} asked.',
            ),
            (
                '"Sleep now," said {parent}. "I will tell you in the morning."',
                '"Close your eyes, my dear," said {parent}. "All is well."',
            ),
            (
                "{His} eyes grew heavy.",
                "{hero} yawned, and then {he} yawned again.",
            ),
        ),
        (
            (
                "{parent} turned off the lamp and gave {him} a kiss.",
                '"Good night, {hero}," said {parent} in a soft voice.',
            ),
            (
                "But {hero} did not hear it. {He} was asleep.",
                "Soon {hero} was fast asleep, and {he} had sweet dreams.",
                "And then the whole house was asleep, and {hero} too.",
            ),
        ),
    ),
)

NOISE = Plot(
    name="noise",
    hero="child",
    prompts=(
        "{hero} hears a strange sound at night, but it is only {cause}.",
        "{hero} is afraid of the dark until {parent} comes.",
    ),
    slots={
        "cause|why": (
            "a branch|the wind moved it at the window",
            "the cat|she wanted to come in",
            "the rain|it fell on the roof",
            "an owl|it called to its friends",
            "the old door|it was not closed",
        ),
        "parent|pronoun": _PARENTS,
        "sound": ("Tap, tap, tap.", "Bump, bump."),
        "fear": ("a monster", "a ghost", "a big bear", "a giant"),
    },
    paragraphs=(
        (
            (
                "It was dark in the room, and {hero} lay in bed.",
                "Everybody in the house was in bed, and so was {hero}.",
            ),
            ("{Then} {he} heard a sound.", "But what was that sound?"),
            ("{sound}", "{sound} {sound}"),
            (
                '"Is that {fear}?" {he} thought.',
                '"It must be {fear}!" {he} thought.',
            ),
            (
                "{He} pulled the blanket over {his} head.",
                "{He} was so scared that {he} could not move.",
                "{He} held {his} toy bear very tight.",
            ),
        ),
        (
            ('"{parent}!" {he} called.', '"{parent}, come here!" {he} cried.'),
            (
                "{parent} came with a small lamp.",
                "{parent} came in and turned on the light.",
            ),
            (
                '"There is {fear} in my room," said {hero}.',
                '"I heard {fear}," said {hero}, and {his} voice was very small.',
            ),
            (
                '"Let us look together," said {parent}.',
                '"Give me your hand," said {parent}. "We will find out what it is."',
            ),
        ),
        (
            (
                "They looked under the bed, but there was nothing.",
                "They looked behind the door, and nobody was there.",
            ),
            (
                "Then they went to the window.",
                "Then they stood still and listened.",
            ),
            ("It was only {cause}, and {why}.",),
            (
                "{hero} had to laugh.",
                '"Oh," said {hero}, "is that all?"',
                '"So that was it!" said {hero}.',
            ),
        ),
        (
            (
                '"The dark is only the day when it sleeps," said {parent}.',
                '"At night, small things sound big," said {parent}.',
            ),
            (
                "{parent} left the door open a little.",
                "{parent} put the small lamp next to the bed.",
                "",
            ),
            (
                "Now {hero} was not afraid any more, and soon {he} was asleep.",
                "{hero} closed {his} eyes and slept until the sun came up.",
            ),
        ),
    ),
)

TOY = Plot(
    name="toy",
    hero="child",
    prompts=(
        "{hero} cannot go to sleep without {his} toy {toy}, but it is lost.",
        "The toy {toy} is missing at bedtime. Where can it be?",
    ),
    slots={
        "toy": ("rabbit", "bear", "lamb", "horse", "duck"),
        "parent|pronoun": _PARENTS,
        "first": ("under the bed", "in the toy box", "behind the door", "on the chair"),
        "second": ("in the kitchen", "under the table", "on the stairs"),
        "third|why": (
            "in the garden|they had played there after lunch",
            "in the school bag|it had been at school that day",
            "in the basket of the dog|the dog had wanted a friend for the night",
            "under the old tree|they had played there after lunch",
        ),
    },
    paragraphs=(
        (
            (
                "Every night, {hero} slept with {his} toy {toy}.",
                "{hero} had a soft toy {toy}, and {he} never slept without it.",
            ),
            (
                "But tonight the {toy} was not there.",
                "But this evening the bed was empty. No {toy}!",
            ),
            (
                '"I cannot sleep without my {toy}," said {hero}.',
                '"Where is my {toy}?" cried {hero}.',
            ),
        ),
        (
            (
                '"Let us look for it," said {parent}.',
                '"Do not cry," said {parent}. "We will find it."',
            ),
            (
                "They looked {first}. It was not there.",
                "Was it {first}? No.",
            ),
            (
                "They looked {second}. No, it was not there.",
                "Was it {second}? No, it was not.",
            ),
            (
                "{hero} was so sad that {he} could not speak.",
                "There were tears in {his} eyes.",
                "",
            ),
            (
                '"Think, {hero}," said {parent}. "Where did you see it last?"',
                '"When did you have it last?" asked {parent}.',
            ),
        ),
        (
            (
                "{hero} thought and thought. Then {he} jumped up.",
                "{hero} thought about the whole day. Then {he} smiled.",
            ),
            ('"I know!" {he} said.', '"Now I know where it is!" {he} cried.'),
            ("The {toy} was {third}, because {why}.",),
            (
                "{parent} went and got it.",
                "They took the lamp and went to get it together.",
            ),
        ),
        (
            (
                "{hero} held {his} {toy} tight and gave it a kiss.",
                '"There you are," said {hero}, and {he} hugged the {toy}.',
            ),
            (
                '"Good night, {hero}. Good night, {toy}," said {parent}.',
                '"Now both of you must sleep," said {parent}.',
            ),
            (
                "And in the quiet of the night, they both fell asleep.",
                "Soon {hero} was asleep, and {he} smiled.",
            ),
        ),
    ),
)

MOON = Plot(
    name="moon",
    hero="animal",
    prompts=(
        "{A_kind} named {hero} wants to stay awake, but {guide} shows {him} {wonder}.",
        "{hero} the {kind} meets {guide} at night.",
    ),
    slots={
        "guide|pronoun": (
            "the moon|it",
            "the evening star|it",
            "the night wind|it",
        ),
        "wonder": (
            *("the quiet forest", "the silver lake", "the quiet meadow"),
            *("the white hills", "the garden of the night"),
        ),
        "home": ("a warm nest", "a small house in a tree", "a warm hole under a tree"),
        "sleeper|manner": (
            "the deer|all in the soft grass",
            "the ducks|close to the water",
            "the birds|each of them in its nest",
            "the flowers|all of them closed",
        ),
    },
    paragraphs=(
        (
            (
                "{hero} was {a_little} {kind} who lived in {home}.",
                "In {home} there lived {a_kind} named {hero}.",
            ),
            (
                "{He} never wanted to go to bed.",
                "Every night, {he} wanted to stay awake.",
            ),
            (
                '"I want to see everything," {he} always said.',
                '"What is there to see when I am asleep?" {he} asked.',
            ),
        ),
        (
            (
                "One night, {guide} looked in and heard {him}.",
                "One night, there was a soft light. It was {guide}. It had come to visit {him}.",
            ),
            (
                '"Come with me, {hero}," said {guide}. "I will show you the night."',
                '"Climb on," said {guide}. "Let us see it together."',
            ),
            (
                "They flew high over the trees.",
                "Up and up they went, until the world was very small.",
            ),
            ("Then they saw {wonder}.", "Soon they came to {wonder}."),
        ),
        (
            (
                "It was very quiet there.",
                "Nothing moved, and there was no sound.",
            ),
            ("{Sleeper} were asleep, {manner}.",),
            (
                '"Nobody is awake," said {hero}.',
                '"They are all asleep," said {hero} in a low voice.',
            ),
            (
                '"Yes," said {guide}. "They sleep, so that they can play tomorrow."',
                '"You see," said {guide}, "the best things come in dreams."',
            ),
        ),
        (
            (
                "Then {guide} took {hero} home and put {him} to bed.",
                "{hero} yawned all the way back to {his} bed.",
            ),
            (
                '"Good night," said {hero}.',
                '"I am a little tired now," said {hero}.',
            ),
            (
                "{He} closed {his} eyes, and the best of all dreams began.",
                "And {guide} watched over {him} until the morning.",
                "From then on, {he} was {glad} when it was time for bed.",
            ),
        ),
    ),
)

PLOTS = (SLEEPLESS, NOISE, TOY, MOON)
